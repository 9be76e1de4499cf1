//! Page: the live page that demo mode serves at `/`. It owns that one self-contained file and the policy
//! it is served with; it must not know where the table of emoji comes from, nor load anything from
//! elsewhere.

/// The `Content-Security-Policy` to be sent with the page: nothing but its own inline style and script, its
/// icon, and requests to the server it came from. Trusted types without a policy make the browser refuse
/// to turn any string, such as a tweet's text, into markup or code.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";

const HTML: &str = include_str!("page.html");

/// Stands in the HTML where the table goes; a JSON string, so that the file itself is well-formed.
const PLACEHOLDER: &str = "\"THE TABLE OF EMOJI\"";

/// The command that reads the scores, the highest first.
pub fn read_scores() -> [&'static [u8]; 5] {
    // Emoji that the page shows at most; there are half as many.
    [
        b"ZREVRANGE",
        b"emojitrack_score",
        b"0",
        b"1999",
        b"WITHSCORES",
    ]
}

/// The page in UTF-8, with the emoji it shows: the unified ID, the score to count on from and the Unicode
/// name of each, in the order in which they are shown. To be rendered once, at the start.
pub fn render<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<u8> {
    HTML.replacen(PLACEHOLDER, &table_json(emoji), 1)
        .into_bytes()
}

/// The table as JSON that can stand in a script element: without a less-than sign nothing in it can end
/// the element or begin a comment.
fn table_json<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> String {
    let rows = emoji
        .into_iter()
        .map(|(id, score, name)| vec![id.into(), score.into(), name.into()])
        .map(serde_json::Value::Array)
        .collect();
    serde_json::Value::Array(rows)
        .to_string()
        .replace('<', "\\u003c")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--";

    fn rendered<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> String {
        String::from_utf8(render(emoji)).unwrap()
    }

    #[test]
    fn the_table_takes_the_place_of_the_placeholder() {
        assert_eq!(HTML.matches(PLACEHOLDER).count(), 1);
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
        let scripts = HTML.matches("</script").count();
        let page = rendered([("1F602", 5, HOSTILE)]);
        assert_eq!(page.matches("</script").count(), scripts);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for elsewhere in ["http:", "https:", "\"//", "'//", "@import", "url(", "src="] {
            assert!(!HTML.contains(elsewhere), "{elsewhere}");
        }
        for (_, link) in HTML.match_indices("href=").map(|at| HTML.split_at(at.0)) {
            assert!(
                link.starts_with("href=\"data:") || link.starts_with("href=\"#"),
                "{link:.60}"
            );
        }
    }

    #[test]
    fn no_text_is_ever_taken_for_markup() {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!HTML.contains(sink), "{sink}");
        }
    }

    #[test]
    fn the_page_is_small_with_as_many_emoji_as_there_are() {
        let longer_than_average = (
            "1F1FA-1F1F8",
            1_234_567_890,
            "A NAME OF SOME THIRTY CHARACTERS",
        );
        let page = render(std::iter::repeat_n(longer_than_average, 845));
        assert!(page.len() < 100_000, "{} bytes", page.len());
    }

    #[test]
    fn the_policy_is_one_header_line_that_allows_what_the_page_does() {
        let is_header_text = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        assert!(CONTENT_SECURITY_POLICY.bytes().all(is_header_text));
        for directive in ["default-src 'none'", "connect-src 'self'", "img-src data:"] {
            assert!(CONTENT_SECURITY_POLICY.contains(directive), "{directive}");
        }
    }
}
