//! Channels: parses the patterns of channels that clients may subscribe to. It owns the form of that list; it must
//! not match names.

use super::Misuse;
use super::given::Given;
use crate::glob::Glob;
use crate::limits::{CHANNEL_PATTERNS_MAX, SEGMENT_BYTES_MAX};
use crate::server::is_own_channel;

pub(super) fn patterns(list: &Given) -> Result<Vec<Glob>, Misuse> {
    let mut globs = Vec::new();
    for entry in list.entries() {
        let is_text = !entry.chars().any(char::is_control);
        if !is_text || !(1..=SEGMENT_BYTES_MAX).contains(&entry.len()) {
            return Err(list.refuse(&format!(
                "{entry:?} is not a pattern of channels: use 1 to {SEGMENT_BYTES_MAX} bytes without control \
                 characters, as in news or room.*"
            )));
        }
        let glob = Glob::new(entry);
        if can_only_match_own(&glob) {
            return Err(list.refuse(&format!(
                "{entry:?} matches only names that are reserved for the server: leave it out"
            )));
        }
        if !globs.contains(&glob) {
            globs.push(glob);
        }
    }
    list.at_most(CHANNEL_PATTERNS_MAX, globs.len(), "patterns")?;
    Ok(globs)
}

/// Whether a pattern, by its text before the first wildcard, can only match names reserved for the server.
fn can_only_match_own(glob: &Glob) -> bool {
    let text = glob.text();
    match text.find(['*', '?', '[', '\\']) {
        // `?` stands for what the wildcard matches: a name reserved as a whole does not reserve longer ones.
        Some(end) => is_own_channel(format!("{}?", &text[..end]).as_bytes()),
        None => is_own_channel(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{command, config, misuse};
    use super::*;

    #[test]
    fn patterns_of_channels() {
        let longest = "a".repeat(200);
        let too_long = "a".repeat(201);
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            ("*", &["*"]),
            (" a b ,c", &["a b", "c"]),
            ("a,a,b.[cd]", &["a", "b.[cd]"]),
            ("\u{2764}", &["\u{2764}"]),
            (&longest, &[&longest]),
            ("stream.*,stream.score_updates.*,stream.score_updates?", &["stream.*", "stream.score_updates.*",
                "stream.score_updates?"]),
            ("stream.tweet_updates,stream.tweet_updates*,stream.admin", &["stream.tweet_updates",
                "stream.tweet_updates*", "stream.admin"]),
        ];
        for (typed, expected) in table {
            let found = config(&["--demo", "--channels", typed], &[])
                .server
                .channels
                .patterns;
            let texts: Vec<&str> = found.iter().map(Glob::text).collect();
            assert_eq!(texts, *expected, "{typed}");
        }
        for entry in ["", "a\nb", "a\u{85}b", &too_long] {
            let expected = format!(
                "CHANNELS: {entry:?} is not a pattern of channels: use 1 to 200 bytes without control \
                 characters, as in news or room.*"
            );
            let typed = format!("news,{entry}");
            assert_eq!(
                misuse(&[], &[("CHANNELS", &format!("{typed},b"))]),
                expected
            );
        }
        #[rustfmt::skip]
        let own = ["stream.score_updates", "stream.tweet_updates.*", "stream.tweet_updates.1F4C2",
            "stream.interaction.[a]", "stream.admin.", "stream.admin.a?"];
        for entry in own {
            let expected = format!(
                "--channels: {entry:?} matches only names that are reserved for the server: leave it out"
            );
            assert_eq!(
                misuse(&["--channels", &format!("a,{entry}")], &[]),
                expected
            );
        }
        let list = |count: usize| -> String {
            let entries: Vec<String> = (0..count).map(|index| format!("c{index}")).collect();
            entries.join(",")
        };
        assert!(command(&[], &[("CHANNELS", &list(64))]).is_ok());
        assert_eq!(
            misuse(&[], &[("CHANNELS", &list(65))]),
            "CHANNELS: 65 patterns are too many: use 64 at most"
        );
    }
}
