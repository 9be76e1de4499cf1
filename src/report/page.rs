//! Page: the live page served at `/`. It owns one self-contained file; it must not know where the table of emoji comes
//! from, nor load anything from other hosts.

use super::html::Policy;

/// The style and script that the browser may use.
pub const POLICY: Policy = Policy {
    style_sha256: "y/qlZ5fipSqyesWGJoVRxj067NIRplRmwh34idg8dkM=",
    script_sha256: "s7hFSl7FpRXDtFPZW9ySJ+yZEhk7w60a2YHWigqSMn4=",
};

const HTML: &str = include_str!("page.html");

/// The placeholder for the table; a JSON string, so that the file itself is well-formed.
const PLACEHOLDER: &str = "\"THE TABLE OF EMOJI\"";

/// The placeholder for the sentence that explains the counts.
const ORIGIN: &str = "THE ORIGIN OF THE COUNTS";

/// The page in UTF-8, with the emoji that it shows, in this order: the unified ID, the score to start from and the
/// Unicode name (may be empty) of each. Other emoji appear on the page when they are first used.
pub fn render<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<u8> {
    let origin = "Each count is the total number of uses in this server's feed.";
    render_with(origin, emoji)
}

/// The page for the demo, which says that updates and tweets are random.
pub fn render_demo<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<u8> {
    let origin = "This is a demo: the server generates random updates and tweets. Counts start from how often each \
        emoji had been used on Twitter by June 2020, and updates follow the same distribution.";
    render_with(origin, emoji)
}

fn render_with<'a>(
    origin: &str,
    emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>,
) -> Vec<u8> {
    // The table comes last, so that nothing in it is taken for a placeholder.
    let page = HTML.replacen(ORIGIN, origin, 1);
    page.replacen(PLACEHOLDER, &table_json(emoji), 1)
        .into_bytes()
}

/// The table as JSON for a script element: without a less-than sign nothing in it can end the element or begin a
/// comment.
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
    use crate::report::html;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--";

    fn rendered<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> String {
        String::from_utf8(render(emoji)).unwrap()
    }

    #[test]
    fn the_table_replaces_the_placeholder() {
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
    fn the_page_is_self_contained_and_matches_its_policy() {
        html::tests::check(HTML, &POLICY);
        // The table changes neither the style nor the script.
        html::tests::check(&rendered([("1F602", 5, HOSTILE)]), &POLICY);
    }

    #[test]
    fn only_the_demo_says_that_updates_are_random() {
        assert_eq!(HTML.matches(ORIGIN).count(), 1);
        let demo = String::from_utf8(render_demo([("1F602", 5, ORIGIN)])).unwrap();
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
        let page = render(std::iter::repeat_n(longer_than_average, 845));
        assert!(page.len() < 100_000, "{} bytes", page.len());
    }
}
