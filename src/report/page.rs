//! Page: the live page that is served at `/`. It owns that one self-contained file; it must not know where
//! the table of emoji comes from, nor load anything from elsewhere.

use super::html::Policy;

/// What the browser is to run.
pub const POLICY: Policy = Policy {
    style_sha256: "dERgvvNnxV2MUfiCPZSgZ3EGbXwrempOo5UA+NvPcSs=",
    script_sha256: "T4d2tUVC/apzepyuiKSBQER/KVNGdKQjFGPvV6zpc6M=",
};

const HTML: &str = include_str!("page.html");

/// Stands in the HTML where the table goes; a JSON string, so that the file itself is well-formed.
const PLACEHOLDER: &str = "\"THE TABLE OF EMOJI\"";

/// Stands in the HTML where the page says what the counts are.
const ORIGIN: &str = "THE ORIGIN OF THE COUNTS";

/// The page in UTF-8, with the emoji it shows: the unified ID, the score to count on from and the Unicode
/// name of each, in the order in which they are shown. Where there is no name, it is empty; emoji that are
/// not among them appear on the page once they are used.
pub fn render<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<u8> {
    let origin = "The counts are all uses that this server's feed has seen.";
    render_with(origin, emoji)
}

/// The same page where updates and tweets are made up, which it says.
pub fn render_demo<'a>(emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<u8> {
    let origin = "This is a demo: updates and tweets are made up by this server, weighted by how often each \
        emoji was used on Twitter up to June 2020, which is also where the counts begin.";
    render_with(origin, emoji)
}

fn render_with<'a>(
    origin: &str,
    emoji: impl IntoIterator<Item = (&'a str, u64, &'a str)>,
) -> Vec<u8> {
    // The table comes last: what stands in it is not looked at again.
    let page = HTML.replacen(ORIGIN, origin, 1);
    page.replacen(PLACEHOLDER, &table_json(emoji), 1)
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
    use crate::report::html;

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
    fn the_page_keeps_the_rules_of_pages() {
        html::tests::check(HTML, &POLICY);
        // What is put in leaves the style and the script as they are.
        html::tests::check(&rendered([("1F602", 5, HOSTILE)]), &POLICY);
    }

    #[test]
    fn only_the_demo_is_said_to_be_made_up() {
        assert_eq!(HTML.matches(ORIGIN).count(), 1);
        let demo = String::from_utf8(render_demo([("1F602", 5, ORIGIN)])).unwrap();
        assert!(demo.contains("are made up"));
        assert!(!rendered([]).contains("are made up"));
        assert!(demo.contains(&format!(r#"[["1F602",5,"{ORIGIN}"]]"#)));
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
}
