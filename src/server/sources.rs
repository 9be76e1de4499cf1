//! Sources: whether those of the emoji streams and of channels are connected. It owns which streams may lack messages because
//! theirs was away; it must not tell anybody.

use crate::bus::Stream;

/// Whether each source is connected, once that is known.
#[derive(Default)]
pub struct Sources {
    emoji: Option<bool>,
    channels: Option<bool>,
}

impl Sources {
    /// Whether the sources are connected, where they can be lost. Returns the streams whose source has come back: what was
    /// published while it was away is lost, and nobody can say what it was.
    pub fn handle(&mut self, emoji: Option<bool>, channels: Option<bool>) -> Vec<Stream> {
        let mut broken = Vec::new();
        if is_back(&mut self.emoji, emoji) {
            broken.extend(Stream::EMOJI);
        }
        if is_back(&mut self.channels, channels) {
            broken.push(Stream::Channels);
        }
        broken
    }
}

fn is_back(known: &mut Option<bool>, is_live: Option<bool>) -> bool {
    let before = std::mem::replace(known, is_live);
    before == Some(false) && is_live == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_lack_messages_once_for_each_absence_of_their_source() {
        let (away, back) = (Some(false), Some(true));
        let channels = &[Stream::Channels][..];
        let all = [&Stream::EMOJI[..], channels].concat();
        let mut sources = Sources::default();
        let table: &[(Option<bool>, Option<bool>, &[Stream])] = &[
            (None, None, &[]),
            (away, away, &[]),
            (back, back, &all),
            (back, back, &[]),
            (away, back, &[]),
            (away, away, &[]),
            (back, away, &Stream::EMOJI),
            (back, back, channels),
        ];
        for &(emoji, of_channels, expected) in table {
            assert_eq!(sources.handle(emoji, of_channels), expected);
        }
    }
}
