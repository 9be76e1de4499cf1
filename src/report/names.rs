//! Names: turns text into segments of a metric's path. It owns the allowed characters. Each new name becomes a file in
//! Graphite, so the caller must bound names that clients choose, such as those of channels.

/// One segment of a path: letters, digits, `-` and `_`; any other character, including a dot, becomes `_`.
pub fn segment(text: &str) -> String {
    let fit = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let clean = |letter| if fit(letter) { letter } else { '_' };
    text.chars().map(clean).collect()
}

/// A path whose segments are separated by dots in the text; empty segments are left out.
pub fn path(text: &str) -> String {
    let segments = text.split('.').filter(|part| !part.is_empty());
    let segments: Vec<String> = segments.map(segment).collect();
    segments.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_characters_become_underscores() {
        let table = [
            ("web-1", "web-1", "web-1"),
            ("web.1", "web_1", "web.1"),
            (
                "my host.example.org",
                "my_host_example_org",
                "my_host.example.org",
            ),
            ("a\nb 1 2\r\n", "a_b_1_2__", "a_b_1_2__"),
            ("..a..b..", "__a__b__", "a.b"),
            ("h\u{f6}st/../x*", "h_st____x_", "h_st_._x_"),
            ("", "", ""),
        ];
        for (text, as_segment, as_path) in table {
            assert_eq!(segment(text), as_segment, "{text:?}");
            assert_eq!(path(text), as_path, "{text:?}");
        }
    }
}
