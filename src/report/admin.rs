//! Admin: the page for whoever looks after the server, served at `/admin/`. It owns that one self-contained
//! file, which reads `status.json` and `cluster.json` beside it; it must not know what they say, nor load
//! anything from elsewhere.

use super::html::Policy;

/// What the browser is to run.
pub const POLICY: Policy = Policy {
    style_sha256: "Xe2lWwyPkbU3fEPnYaC/5fGaXdkPV9z7Qdqij58KONU=",
    script_sha256: "GPsAPI4DKGjxK3Q9org9WFsOwjhxw9Mn4AmjIQY5lFg=",
};

/// The page in UTF-8.
pub const HTML: &str = include_str!("admin.html");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html;

    #[test]
    fn the_page_keeps_the_rules_of_pages() {
        html::tests::check(HTML, &POLICY);
    }

    #[test]
    fn documents_are_found_beside_the_page() {
        // A proxy may have put the whole server below a path of its own.
        for document in ["status.json", "cluster.json"] {
            assert!(HTML.contains(&format!("\"{document}\"")), "{document}");
            assert!(!HTML.contains(&format!("/{document}")), "{document}");
        }
    }

    #[test]
    fn the_page_is_small() {
        assert!(HTML.len() < 40_000, "{} bytes", HTML.len());
    }
}
