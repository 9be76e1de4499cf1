//! Pages: the live page served at `/`, and the page for administrators at `/admin/`, which reads `status.json` and
//! `cluster.json` at the same path. It owns two self-contained files and their content security policy; it must not
//! know where the table of emoji comes from, nor load anything from other hosts.

use std::sync::Arc;

use crate::http::reply::Reply;

/// A page, and the SHA-256 digests, in Base64, of its one style and its one script element. If they are out of date, a
/// test prints the new ones.
pub struct Page {
    /// The page in UTF-8; that of the live page has placeholders, see [`render`].
    pub html: &'static str,
    style_sha256: &'static str,
    script_sha256: &'static str,
}

/// The live page.
pub const LIVE: Page = Page {
    html: include_str!("page.html"),
    style_sha256: "y/qlZ5fipSqyesWGJoVRxj067NIRplRmwh34idg8dkM=",
    script_sha256: "s7hFSl7FpRXDtFPZW9ySJ+yZEhk7w60a2YHWigqSMn4=",
};

/// The page for administrators.
pub const ADMIN: Page = Page {
    html: include_str!("admin.html"),
    style_sha256: "a5+9fwhSvD53cTHKCup+JdatdeG5nH4AMgTHdrV0Oc4=",
    script_sha256: "5KI3ev1MHLdtXgXsav546V0lzbhVqsAHq3OVVm5lQl0=",
};

impl Page {
    /// The reply with this page, whose bytes all clients share.
    pub fn reply(&self, bytes: &Arc<[u8]>) -> Reply {
        Reply {
            content_type: Some("text/html; charset=utf-8"),
            extra: format!("Content-Security-Policy: {}\r\n", self.policy()).into(),
            ..Reply::json(200, Arc::clone(bytes))
        }
    }

    /// The policy allows only this style and script, an embedded icon, and requests to the same server. Trusted types
    /// without a policy make the browser refuse to turn a string, such as the text of a tweet, into markup or code.
    fn policy(&self) -> String {
        let (style, script) = (self.style_sha256, self.script_sha256);
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; \
             script-src 'sha256-{script}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        )
    }
}

/// The placeholder for the table; a JSON string, so that the file itself is well-formed.
const PLACEHOLDER: &str = "\"THE TABLE OF EMOJI\"";

/// The placeholder for the sentence that explains the counts.
const ORIGIN: &str = "THE ORIGIN OF THE COUNTS";

/// That sentence for a feed.
pub const FEED: &str = "Each count is the total number of uses in this server's feed.";

/// That sentence for the demo.
pub const DEMO: &str = "This is a demo: the server generates random updates and tweets. Counts start from how often \
    each emoji had been used on Twitter by June 2020, and updates follow the same distribution.";

/// The live page with this sentence and the emoji that it shows, in this order: the unified ID, the score to start from
/// and the Unicode name (may be empty) of each. Other emoji appear on the page when they are first used.
pub fn render<'a>(
    origin: &str,
    emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>,
) -> Vec<u8> {
    // The table comes last, so that nothing in it is taken for a placeholder.
    let page = LIVE.html.replacen(ORIGIN, origin, 1);
    page.replacen(PLACEHOLDER, &table_json(emoji), 1)
        .into_bytes()
}

/// The table as JSON for a script element: without a less-than sign nothing in it can end the element or begin a
/// comment.
fn table_json<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> String {
    let rows = emoji
        .into_iter()
        .map(|(id, score, name)| serde_json::json!([id, score, name]));
    rows.collect::<serde_json::Value>()
        .to_string()
        .replace('<', "\\u003c")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--";

    fn rendered<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> String {
        String::from_utf8(render(FEED, emoji)).unwrap()
    }

    /// Checks the rules that all pages follow.
    fn check(html: &str, page: &Page) {
        nothing_is_loaded_from_other_hosts(html);
        text_is_never_parsed_as_markup(html);
        assert_eq!(
            [page.style_sha256, page.script_sha256],
            [digest(html, "style"), digest(html, "script")],
            "the digests are out of date"
        );
        let value = page.policy();
        let is_header_text = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        assert!(value.bytes().all(is_header_text), "{value}");
        assert!(!value.contains("unsafe"), "{value}");
    }

    fn nothing_is_loaded_from_other_hosts(html: &str) {
        // The XML namespace in an icon is not loaded.
        let html = html.replace("xmlns='http%3A//www.w3.org/2000/svg'", "");
        let html = html.replace("\"http://www.w3.org/2000/svg\"", "");
        for elsewhere in ["http:", "https:", "\"//", "'//", "@import", "url(", "src="] {
            assert!(!html.contains(elsewhere), "{elsewhere}");
        }
        for (_, link) in html.match_indices("href=").map(|at| html.split_at(at.0)) {
            assert!(
                link.starts_with("href=\"data:") || link.starts_with("href=\"#"),
                "{link:.60}"
            );
        }
    }

    fn text_is_never_parsed_as_markup(html: &str) {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!html.contains(sink), "{sink}");
        }
    }

    /// The digest of the content of the only element with this tag and no attributes.
    fn digest(html: &str, tag: &str) -> String {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(html.matches(&begin).count(), 1, "{tag}");
        let (_, rest) = html.split_once(&begin).unwrap();
        let (text, _) = rest.split_once(&end).unwrap();
        BASE64_STANDARD.encode(hmac_sha256::Hash::hash(text.as_bytes()))
    }

    #[test]
    fn the_table_replaces_the_placeholder() {
        assert_eq!(LIVE.html.matches(PLACEHOLDER).count(), 1);
        let page = rendered([("1F602", 5, "FACE"), ("2764", 3, "HEART")]);
        assert!(!page.contains(PLACEHOLDER));
        assert!(page.contains(r#"[["1F602",5,"FACE"],["2764",3,"HEART"]]"#));
    }

    #[test]
    fn nothing_in_the_table_can_end_its_element() {
        let table = table_json([("1F602", 5, HOSTILE)]);
        assert!(!table.contains('<'));
        let parsed: serde_json::Value = serde_json::from_str(&table).unwrap();
        assert_eq!(parsed[0][2], HOSTILE);
        let scripts = LIVE.html.matches("</script").count();
        let page = rendered([("1F602", 5, HOSTILE)]);
        assert_eq!(page.matches("</script").count(), scripts);
    }

    #[test]
    fn pages_are_self_contained_and_match_their_policy() {
        check(ADMIN.html, &ADMIN);
        check(LIVE.html, &LIVE);
        // The table changes neither the style nor the script.
        check(&rendered([("1F602", 5, HOSTILE)]), &LIVE);
    }

    #[test]
    fn only_the_demo_says_that_updates_are_random() {
        assert_eq!(LIVE.html.matches(ORIGIN).count(), 1);
        let demo = String::from_utf8(render(DEMO, [("1F602", 5, ORIGIN)])).unwrap();
        assert!(demo.contains("random updates"));
        assert!(!rendered([]).contains("random updates"));
        assert!(demo.contains(&format!(r#"[["1F602",5,"{ORIGIN}"]]"#)));
    }

    #[test]
    fn the_page_is_small_even_with_all_emoji() {
        let longer_than_average = (
            "1F1FA-1F1F8",
            1_234_567_890,
            "A NAME OF SOME THIRTY CHARACTERS",
        );
        let page = render(FEED, std::iter::repeat_n(longer_than_average, 845));
        assert!(page.len() < 100_000, "{} bytes", page.len());
    }

    #[test]
    fn the_addresses_of_documents_are_relative() {
        // A proxy may serve the whole server below another path.
        for document in ["status.json", "cluster.json"] {
            assert!(
                ADMIN.html.contains(&format!("\"{document}\"")),
                "{document}"
            );
            assert!(!ADMIN.html.contains(&format!("/{document}")), "{document}");
        }
    }

    #[test]
    fn the_admin_page_is_small() {
        assert!(ADMIN.html.len() < 40_000, "{} bytes", ADMIN.html.len());
    }
}
