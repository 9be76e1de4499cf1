//! Globs against a matcher that tries every way at once.

use emojitrack_streamer::glob::Glob;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
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

/// Matches the pattern piece by piece, and keeps all places in the name where what has been matched may end.
fn matches(mut pattern: &[u8], name: &[u8]) -> bool {
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    while let [first, after @ ..] = pattern {
        if *first == b'*' {
            let from = ends.iter().position(|&is_end| is_end);
            ends[from.unwrap_or(name.len() + 1)..].fill(true);
            pattern = after;
            continue;
        }
        let (bytes, rest) = piece(*first, after);
        for place in (0..name.len()).rev() {
            ends[place + 1] = ends[place] && bytes[usize::from(name[place])];
        }
        ends[0] = false;
        pattern = rest;
    }
    ends[name.len()]
}

/// The bytes that a piece of a pattern stands for, and what follows it.
fn piece(first: u8, after: &[u8]) -> ([bool; 256], &[u8]) {
    match (first, after) {
        (b'?', _) => ([true; 256], after),
        (b'[', [b'^', class @ ..]) => {
            let (bytes, rest) = members(class);
            (bytes.map(|is_member| !is_member), rest)
        }
        (b'[', class) => members(class),
        (b'\\', [escaped, rest @ ..]) => (with([false; 256], *escaped, *escaped), rest),
        (literal, _) => (with([false; 256], literal, literal), after),
    }
}

/// All bytes of a class, and what follows it.
fn members(mut class: &[u8]) -> ([bool; 256], &[u8]) {
    let mut bytes = [false; 256];
    loop {
        (bytes, class) = match class {
            [] => return (bytes, class),
            [b']', rest @ ..] => return (bytes, rest),
            [b'\\', escaped, rest @ ..] => (with(bytes, *escaped, *escaped), rest),
            [one, b'-', other, rest @ ..] => (with(bytes, *one, *other), rest),
            [one, rest @ ..] => (with(bytes, *one, *one), rest),
        };
    }
}

/// These bytes and all from one to another, whichever is less.
fn with(mut bytes: [bool; 256], one: u8, other: u8) -> [bool; 256] {
    bytes[usize::from(one.min(other))..=usize::from(one.max(other))].fill(true);
    bytes
}
