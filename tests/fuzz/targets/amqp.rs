//! AMQP frames: the same frames come out however the bytes are split.

use emojitrack_streamer::broker::amqp::codec::{Decoder, Frame, FrameError};

pub fn run(input: &[u8]) {
    let (pieces, bytes) = super::pieces(input);
    assert_eq!(read(&pieces), read(&[bytes]), "split differently");
}

fn read(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.next_frame(&mut rest) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
