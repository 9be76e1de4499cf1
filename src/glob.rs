//! Globs: the patterns of channels' names, as Redis reads them. It owns what they match, byte by byte; it must
//! not know which channels there are.

/// A pattern: `*` for any bytes, `?` for any one, `[abc]`, `[^a]` and `[a-z]` for one of some, and `\` before a
/// byte that means itself. A pattern need not hold any of these; then it matches its own text alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
}

impl Glob {
    /// The pattern with this text. There is none that is wrong: a class without its end ends with the pattern,
    /// and a last `\` means itself.
    pub fn new(text: &str) -> Glob {
        Glob {
            text: text.to_owned(),
        }
    }

    /// The pattern as it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is more than a name: whether any of its bytes may mean something else than itself.
    pub fn is_pattern(&self) -> bool {
        self.text.contains(['*', '?', '[', '\\'])
    }

    /// Whether it matches the whole name. What it costs is the name's length times the pattern's at most: only
    /// the last `*` is ever tried again, because what an earlier one could take more, that one can take as well.
    pub fn matches(&self, name: &str) -> bool {
        let mut pattern = self.text.as_bytes();
        let mut rest = name.as_bytes();
        if rest.is_empty() {
            // To Redis nothing but nothing matches an empty name, not even `*`.
            return pattern.is_empty();
        }
        // What follows the last `*`, and what is left of the name where that began.
        let mut star: Option<(&[u8], &[u8])> = None;
        loop {
            if let Some(after) = pattern.strip_prefix(b"*") {
                pattern = after;
                star = Some((after, rest));
                continue;
            }
            let Some((&byte, after)) = rest.split_first() else {
                return pattern.is_empty();
            };
            match match_one(pattern, byte) {
                Some(next) => (pattern, rest) = (next, after),
                None => {
                    // The last `*` takes one byte more.
                    let Some((next, [_, after @ ..])) = star else {
                        return false;
                    };
                    (pattern, rest) = (next, after);
                    star = Some((next, after));
                }
            }
        }
    }
}

/// What follows the pattern's first element, where that matches this byte. It is no `*`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_match, next) = match pattern {
        [] => return None,
        [b'?', next @ ..] => (true, next),
        [b'[', b'^', class @ ..] => {
            let (is_in, next) = match_class(class, byte);
            (!is_in, next)
        }
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', escaped, next @ ..] => (*escaped == byte, next),
        [literal, next @ ..] => (*literal == byte, next),
    };
    is_match.then_some(next)
}

/// Whether a class, given from behind its `[` or `[^`, holds this byte, and what follows its `]`. A `]` always
/// ends it, and so a class can be empty, but as the end of a range it is a byte like others.
fn match_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        let (from, to, next) = match class {
            [] => return (is_in, class),
            [b'\\', escaped, next @ ..] => (escaped, escaped, next),
            [b']', next @ ..] => return (is_in, next),
            [one, b'-', other, next @ ..] => (one.min(other), one.max(other), next),
            [one, next @ ..] => (one, one, next),
        };
        is_in |= (from..=to).contains(&&byte);
        class = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_match_in_redis() {
        // A pattern, names that it matches, and names that it does not match.
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &["a"]),
            ("news", &["news"], &["new", "newss", "News", ""]),
            ("*", &["a", "*", "\u{2764}"], &[""]),
            ("**", &["a", "ab"], &[""]),
            ("a*", &["a", "ab", "a*"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["ab"]),
            (
                "a*b*c",
                &["abc", "a1b2c", "abbcc", "abcbc"],
                &["ac", "abcd"],
            ),
            ("*ab*ab", &["abab", "xabyab"], &["ab", "aba"]),
            ("room.?", &["room.1", "room.?"], &["room.", "room.12"]),
            ("?", &["a"], &["\u{2764}", ""]),
            ("???", &["\u{2764}", "abc"], &["ab"]),
            ("[abc]d", &["ad", "cd"], &["d", "dd", "abcd"]),
            ("[^a]", &["b", "^"], &["a", "", "bb"]),
            ("[a-c]", &["a", "b", "c"], &["d", "-"]),
            ("[c-a]", &["a", "b", "c"], &["d", "-"]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[a-]", &["a"], &["-", "b", "a]"]),
            ("[-a]", &["-", "a"], &["b"]),
            ("[a-\\]]", &["a]", "\\]"], &["]", "a"]),
            ("[\\a-z]", &["a", "-", "z"], &["b", "\\"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[]", &[], &["]", "[]", "a"]),
            ("[]a]", &[], &["a", "]", "a]"]),
            ("[^]", &["a", "]"], &["ab", ""]),
            ("[", &[], &["[", "a"]),
            ("[^", &["a", "["], &["ab"]),
            ("[ab", &["a", "b"], &["ab", "[ab"]),
            ("[a-", &["a", "-"], &["b"]),
            ("[a\\", &["a", "\\"], &["b"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("\\a", &["a"], &["\\a"]),
            ("\\\\", &["\\"], &["\\\\"]),
            ("a\\", &["a\\"], &["a"]),
            ("*[a-b]c", &["ac", "xxbc", "acbc"], &["cc", "ab"]),
            ("*\\?", &["a?", "?"], &["a"]),
        ];
        for (pattern, matched, unmatched) in table {
            let glob = Glob::new(pattern);
            assert_eq!(glob.text(), *pattern);
            for name in *matched {
                assert!(glob.matches(name), "{pattern:?} on {name:?}");
            }
            for name in *unmatched {
                assert!(!glob.matches(name), "{pattern:?} on {name:?}");
            }
        }
    }

    #[test]
    fn names_are_told_from_patterns() {
        for (text, expected) in [
            ("", false),
            ("news.1-2]^", false),
            ("news.*", true),
            ("?", true),
            ("[a]", true),
            ("a\\b", true),
        ] {
            assert_eq!(Glob::new(text).is_pattern(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        // With a way back to each `*` this would take longer than anybody lives.
        let glob = Glob::new(&"*a".repeat(100));
        assert!(!glob.matches(&format!("{}b", "a".repeat(199))));
        assert!(glob.matches(&"a".repeat(200)));
    }
}
