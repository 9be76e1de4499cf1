//! Content: a message's body, which comes in frames. It owns the bound on one and what is skipped; it must not know
//! whose message it is.

use super::super::Message;
use crate::limits::AMQP_BODY_BYTES_MAX;

/// What has come of the message that is under way on one channel, if any.
#[derive(Debug, Default)]
pub(super) enum Content {
    /// No message is under way.
    #[default]
    None,
    /// One was announced; its channel, unless nobody wants it.
    Announced(Option<Vec<u8>>),
    /// It has a body, of which so many bytes are left to come.
    Body { message: Option<Message>, left: u64 },
}

/// What a frame has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come, or the message was one to be skipped.
    Nothing,
    /// A whole message.
    Whole(Message),
    /// The body that was announced has so many bytes, and is skipped.
    TooLarge(u64),
}

/// The frame is none that may come now: the broker's fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfTurn;

impl Content {
    /// A message is announced; `channel` is its channel, unless nobody wants it.
    pub(super) fn announce(&mut self, channel: Option<Vec<u8>>) -> Result<(), OutOfTurn> {
        match self {
            Content::None => {
                *self = Content::Announced(channel);
                Ok(())
            }
            _ => Err(OutOfTurn),
        }
    }

    /// Its body has so many bytes.
    pub(super) fn on_header(&mut self, len: u64) -> Result<Progress, OutOfTurn> {
        let Content::Announced(channel) = std::mem::take(self) else {
            return Err(OutOfTurn);
        };
        let is_wanted = channel.is_some();
        let message = channel
            .filter(|_| len <= AMQP_BODY_BYTES_MAX)
            .map(|channel| Message {
                pattern: None,
                channel,
                payload: Vec::new(),
            });
        let is_too_large = is_wanted && message.is_none();
        *self = Content::Body { message, left: len };
        match is_too_large {
            true => Ok(Progress::TooLarge(len)),
            false => Ok(self.finish()),
        }
    }

    /// The next part of the body.
    pub(super) fn on_body(&mut self, part: Vec<u8>) -> Result<Progress, OutOfTurn> {
        let Content::Body { message, left } = self else {
            return Err(OutOfTurn);
        };
        *left = left.checked_sub(part.len() as u64).ok_or(OutOfTurn)?;
        match message {
            // Most bodies are one frame.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(payload: &[u8]) -> Result<Progress, OutOfTurn> {
        Ok(Progress::Whole(Message {
            pattern: None,
            channel: b"a".to_vec(),
            payload: payload.to_vec(),
        }))
    }

    #[test]
    fn bodies_are_put_together() {
        let nothing = || Ok(Progress::Nothing);
        let mut content = Content::default();
        assert_eq!(content.announce(Some(b"a".to_vec())), Ok(()));
        assert_eq!(content.on_header(5), nothing());
        assert_eq!(content.on_body(b"ab".to_vec()), nothing());
        assert_eq!(content.on_body(b"".to_vec()), nothing());
        assert_eq!(content.on_body(b"cde".to_vec()), whole(b"abcde"));
        // An empty one has no frame of a body.
        assert_eq!(content.announce(Some(b"a".to_vec())), Ok(()));
        assert_eq!(content.on_header(0), whole(b""));
        // One that nobody wants.
        assert_eq!(content.announce(None), Ok(()));
        assert_eq!(content.on_header(2), nothing());
        assert_eq!(content.on_body(b"ab".to_vec()), nothing());
        assert_eq!(content.announce(None), Ok(()));
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
                false => Progress::TooLarge(len),
            };
            assert_eq!(content.on_header(len), Ok(expected));
            let mut left = len as usize;
            while left > 0 {
                let part = left.min(100_000);
                left -= part;
                let progress = content.on_body(vec![b'x'; part]).unwrap();
                let is_whole = matches!(progress, Progress::Whole(_));
                assert_eq!(is_whole, left == 0 && is_kept);
                if let Content::Body { message, .. } = &content {
                    assert_eq!(message.is_some(), is_kept);
                }
            }
            assert_eq!(content.announce(None), Ok(()), "the next one may come");
        }
    }

    #[test]
    fn what_comes_out_of_turn_is_an_error() {
        assert_eq!(Content::None.on_header(1), Err(OutOfTurn));
        assert_eq!(Content::None.on_body(vec![1]), Err(OutOfTurn));
        assert_eq!(Content::Announced(None).announce(None), Err(OutOfTurn));
        assert_eq!(Content::Announced(None).on_body(vec![1]), Err(OutOfTurn));
        let body = || Content::Body {
            message: None,
            left: 1,
        };
        assert_eq!(body().announce(None), Err(OutOfTurn));
        assert_eq!(body().on_header(1), Err(OutOfTurn));
        assert_eq!(body().on_body(vec![1, 2]), Err(OutOfTurn));
    }
}
