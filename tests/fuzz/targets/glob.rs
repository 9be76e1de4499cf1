//! Globs against a matcher that tries every way.

use emojitrack_streamer::glob::Glob;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    // The naive matcher takes exponential time.
    if pattern.len() > 24 || name.len() > 24 {
        let _only_not_to_panic = Glob::new(pattern).matches(name);
        return;
    }
    let expected = match name.is_empty() {
        true => pattern.is_empty(),
        false => matches(pattern.as_bytes(), name.as_bytes()),
    };
    assert_eq!(
        Glob::new(pattern).matches(name),
        expected,
        "{pattern:?} on {name:?}"
    );
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|len| matches(rest, &name[len..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, after @ ..]) => matches(rest, after),
        ([b'[', class @ ..], [byte, after @ ..]) => {
            let (is_negated, class) = match class {
                [b'^', class @ ..] => (true, class),
                _ => (false, class),
            };
            let (members, rest) = members(class);
            members.contains(byte) != is_negated && matches(rest, after)
        }
        ([b'\\', escaped, rest @ ..], [byte, after @ ..]) => {
            escaped == byte && matches(rest, after)
        }
        ([literal, rest @ ..], [byte, after @ ..]) => literal == byte && matches(rest, after),
    }
}

/// All bytes of a class, and what follows it.
fn members(class: &[u8]) -> (Vec<u8>, &[u8]) {
    match class {
        [] => (Vec::new(), class),
        [b']', rest @ ..] => (Vec::new(), rest),
        [b'\\', escaped, rest @ ..] => with(*escaped..=*escaped, rest),
        [one, b'-', other, rest @ ..] => with(*one.min(other)..=*one.max(other), rest),
        [one, rest @ ..] => with(*one..=*one, rest),
    }
}

fn with(range: std::ops::RangeInclusive<u8>, rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut others, rest) = members(rest);
    others.extend(range);
    (others, rest)
}
