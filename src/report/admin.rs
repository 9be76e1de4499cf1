//! Admin: the page for administrators, served at `/admin/`. It owns one self-contained file, which reads `status.json`
//! and `cluster.json` at the same path; it must not load anything from other hosts.

use super::html::Policy;

/// The style and script that the browser may use.
pub const POLICY: Policy = Policy {
    style_sha256: "a5+9fwhSvD53cTHKCup+JdatdeG5nH4AMgTHdrV0Oc4=",
    script_sha256: "5KI3ev1MHLdtXgXsav546V0lzbhVqsAHq3OVVm5lQl0=",
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
