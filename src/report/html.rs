//! HTML: what the pages have in common. It owns their content security policy and the rules that they follow; it must
//! not know what they show.

use std::sync::Arc;

use crate::http::reply::Reply;

/// The content security policy of a page: SHA-256 digests, in Base64, of its one style and its one script element. If
/// they are out of date, a test prints the new ones.
pub struct Policy {
    /// Of the style.
    pub style_sha256: &'static str,
    /// Of the script.
    pub script_sha256: &'static str,
}

impl Policy {
    /// The value of `Content-Security-Policy`. It allows only this style and script, an embedded icon, and requests to
    /// the same server. Trusted types without a policy make the browser refuse to turn a string, such as the text of
    /// a tweet, into markup or code.
    fn value(&self) -> String {
        let Policy {
            style_sha256,
            script_sha256,
        } = self;
        format!(
            "default-src 'none'; style-src 'sha256-{style_sha256}'; \
             script-src 'sha256-{script_sha256}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        )
    }
}

/// The reply with a page, whose bytes all clients share.
pub fn reply(page: &Arc<[u8]>, policy: &Policy) -> Reply {
    Reply {
        content_type: Some("text/html; charset=utf-8"),
        extra: format!("Content-Security-Policy: {}\r\n", policy.value()).into(),
        ..Reply::json(200, Arc::clone(page))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};

    /// Checks the rules that all pages follow.
    pub fn check(html: &str, policy: &Policy) {
        nothing_is_loaded_from_other_hosts(html);
        text_is_never_parsed_as_markup(html);
        assert_eq!(
            [policy.style_sha256, policy.script_sha256],
            [digest(html, "style"), digest(html, "script")],
            "the digests are out of date"
        );
        let value = policy.value();
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
}
