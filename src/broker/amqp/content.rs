//! Content: a message's body, which arrives in frames. It owns the size limit and skips larger bodies; it does not know
//! whose message it is.

use crate::broker::Message;
use crate::broker::link::Failure;
use crate::limits::AMQP_BODY_BYTES_MAX;

/// What was received of a message over one channel.
#[derive(Debug, Default)]
pub(super) enum Content {
    /// There is no message.
    #[default]
    None,
    /// Its header is to come. The name is its channel, unless nobody wants the message.
    Announced(Option<Vec<u8>>),
    /// So many bytes of its body are to come. Without a message, they are skipped.
    Body { message: Option<Message>, left: u64 },
}

/// What a frame has completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come, or the message is skipped.
    Nothing,
    /// A whole message.
    Whole(Message),
    /// The body has so many bytes, which is over the limit, and is skipped: a message without it.
    TooLarge(Message, u64),
}

impl Content {
    /// A message begins. `channel` is its channel, unless nobody wants it.
    pub(super) fn announce(&mut self, channel: Option<Vec<u8>>) -> Result<(), Failure> {
        let Content::None = self else {
            return Err(unexpected());
        };
        *self = Content::Announced(channel);
        Ok(())
    }

    /// The header: the body has so many bytes.
    pub(super) fn handle_header(&mut self, len: u64) -> Result<Progress, Failure> {
        let Content::Announced(channel) = std::mem::take(self) else {
            return Err(unexpected());
        };
        let is_too_large = len > AMQP_BODY_BYTES_MAX;
        let mut message = channel.map(|channel| Message {
            pattern: None,
            channel,
            payload: Vec::new(),
            is_too_large,
        });
        let skipped = message.take_if(|_| is_too_large);
        *self = Content::Body { message, left: len };
        match skipped {
            Some(message) => Ok(Progress::TooLarge(message, len)),
            None => Ok(self.finish()),
        }
    }

    /// The next part of the body.
    pub(super) fn handle_body(&mut self, part: Vec<u8>) -> Result<Progress, Failure> {
        let Content::Body { message, left } = self else {
            return Err(unexpected());
        };
        *left = left.checked_sub(part.len() as u64).ok_or_else(unexpected)?;
        match message {
            // Most bodies fit into one frame, which is not copied.
            Some(message) if message.payload.is_empty() => message.payload = part,
            Some(message) => message.payload.extend_from_slice(&part),
            None => {}
        }
        Ok(self.finish())
    }

    fn finish(&mut self) -> Progress {
        match self {
            Content::Body { message, left: 0 } => {
                let message = message.take();
                *self = Content::None;
                message.map_or(Progress::Nothing, Progress::Whole)
            }
            _ => Progress::Nothing,
        }
    }
}

fn unexpected() -> Failure {
    Failure::Unexpected("a part of a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(payload: &[u8]) -> Option<Progress> {
        Some(Progress::Whole(Message {
            pattern: None,
            channel: b"a".to_vec(),
            payload: payload.to_vec(),
            is_too_large: false,
        }))
    }

    #[test]
    fn bodies_are_put_together() {
        let nothing = || Some(Progress::Nothing);
        let mut content = Content::default();
        assert_eq!(content.announce(Some(b"a".to_vec())).ok(), Some(()));
        assert_eq!(content.handle_header(5).ok(), nothing());
        assert_eq!(content.handle_body(b"ab".to_vec()).ok(), nothing());
        assert_eq!(content.handle_body(b"".to_vec()).ok(), nothing());
        assert_eq!(content.handle_body(b"cde".to_vec()).ok(), whole(b"abcde"));
        // An empty one has no frame of a body.
        assert_eq!(content.announce(Some(b"a".to_vec())).ok(), Some(()));
        assert_eq!(content.handle_header(0).ok(), whole(b""));
        // One that nobody wants.
        assert_eq!(content.announce(None).ok(), Some(()));
        assert_eq!(content.handle_header(2).ok(), nothing());
        assert_eq!(content.handle_body(b"ab".to_vec()).ok(), nothing());
        assert_eq!(content.announce(None).ok(), Some(()));
    }

    #[test]
    fn a_body_over_the_bound_is_skipped_and_not_kept() {
        for (len, is_kept) in [
            (AMQP_BODY_BYTES_MAX, true),
            (AMQP_BODY_BYTES_MAX + 1, false),
        ] {
            let mut content = Content::default();
            content.announce(Some(b"a".to_vec())).unwrap();
            let expected = match is_kept {
                true => Progress::Nothing,
                false => {
                    let skipped = Message {
                        pattern: None,
                        channel: b"a".to_vec(),
                        payload: Vec::new(),
                        is_too_large: true,
                    };
                    Progress::TooLarge(skipped, len)
                }
            };
            assert_eq!(content.handle_header(len).ok(), Some(expected));
            let mut left = len as usize;
            while left > 0 {
                let part = left.min(100_000);
                left -= part;
                let progress = content.handle_body(vec![b'x'; part]).unwrap();
                let is_whole = matches!(progress, Progress::Whole(_));
                assert_eq!(is_whole, left == 0 && is_kept);
                if let Content::Body { message, .. } = &content {
                    assert_eq!(message.is_some(), is_kept);
                }
            }
            assert_eq!(
                content.announce(None).ok(),
                Some(()),
                "the next one may come"
            );
        }
    }

    #[test]
    fn unexpected_frames_are_errors() {
        assert!(Content::None.handle_header(1).is_err());
        assert!(Content::None.handle_body(vec![1]).is_err());
        assert!(Content::Announced(None).announce(None).is_err());
        assert!(Content::Announced(None).handle_body(vec![1]).is_err());
        let body = || Content::Body {
            message: None,
            left: 1,
        };
        assert!(body().announce(None).is_err());
        assert!(body().handle_header(1).is_err());
        assert!(body().handle_body(vec![1, 2]).is_err());
    }
}
