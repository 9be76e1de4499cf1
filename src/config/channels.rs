//! Channels: the patterns of those that may be asked for, as typed, become globs. It owns what such a list may
//! say; it must not decide about a name.

use super::Misuse;
use super::options::Key;
use super::raw::{Given, Raw};
use crate::engine::is_own_channel;
use crate::limits::{CHANNEL_PATTERNS_MAX, SEGMENT_BYTES_MAX};
use crate::proto::glob::Glob;

impl Raw {
    /// What the names of channels may be; nothing where there are to be none.
    pub(super) fn channels(&self) -> Result<Vec<Glob>, Misuse> {
        let list = self.get(Key::Channels);
        if list.is_default {
            return Ok(Vec::new());
        }
        let mut globs = Vec::new();
        for entry in list.value.split(',').map(str::trim) {
            let glob = glob(list, entry)?;
            if !globs.contains(&glob) {
                globs.push(glob);
            }
        }
        if globs.len() > CHANNEL_PATTERNS_MAX {
            let (name, count) = (&list.name, globs.len());
            return Err(Misuse(format!(
                "{name}: {count} patterns are too many: use {CHANNEL_PATTERNS_MAX} at most"
            )));
        }
        Ok(globs)
    }
}

fn glob(list: &Given, entry: &str) -> Result<Glob, Misuse> {
    let is_text = !entry.chars().any(char::is_control);
    if !is_text || !(1..=SEGMENT_BYTES_MAX).contains(&entry.len()) {
        let forms = format!(
            "a pattern of channels: use 1 to {SEGMENT_BYTES_MAX} bytes without control characters, \
             as in news or room.*"
        );
        return Err(list.refuse(entry, &forms));
    }
    let glob = Glob::new(entry);
    if can_only_match_own(&glob) {
        let (name, reason) = (&list.name, "all such names are the server's own");
        return Err(Misuse(format!(
            "{name}: {entry:?} can match no channel, because {reason}: leave it out"
        )));
    }
    Ok(glob)
}

/// Whether all names that begin as the pattern does, up to where it may mean several, are the server's own.
fn can_only_match_own(glob: &Glob) -> bool {
    let text = glob.text();
    match text.find(['*', '?', '[', '\\']) {
        // Whatever else is behind it, no name that is one alone is meant.
        Some(end) => is_own_channel(format!("{}?", &text[..end]).as_bytes()),
        None => is_own_channel(text.as_bytes()),
    }
}
