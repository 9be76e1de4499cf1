//! Names: texts made fit to be parts of a metric's path. It owns which letters those are; it must not be
//! given a client's words, because every new name is a file at the other end: channels, which clients do name, are
//! bounded by whoever reports them.

/// One segment of a path: letters, digits, `-` and `_`; anything else, a dot included, becomes `_`.
pub fn segment(text: &str) -> String {
    let fit = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let clean = |letter| if fit(letter) { letter } else { '_' };
    text.chars().map(clean).collect()
}

/// A path of several segments, divided by dots as in the text; empty segments are left out.
pub fn path(text: &str) -> String {
    let segments = text.split('.').filter(|part| !part.is_empty());
    let segments: Vec<String> = segments.map(segment).collect();
    segments.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fit_becomes_an_underscore() {
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
