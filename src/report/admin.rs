//! Admin: the page for administrators, served at `/admin/`. It owns one self-contained file, which reads `status.json`
//! and `cluster.json` at the same path; it must not load anything from other hosts.

use super::html::Policy;

/// The style and script that the browser may use.
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
    fn the_page_is_self_contained_and_matches_its_policy() {
        html::tests::check(HTML, &POLICY);
    }

    #[test]
    fn the_addresses_of_documents_are_relative() {
        // A proxy may serve the whole server below another path.
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
