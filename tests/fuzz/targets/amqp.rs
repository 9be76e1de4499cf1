//! AMQP frames: the same frames come out however the bytes are split.

use emojitrack_streamer::broker::amqp::codec::{Decoder, Frame, FrameError};

pub fn run(input: &[u8]) {
    let (pieces, bytes) = super::pieces(input);
    assert_eq!(read(&pieces), read(&[bytes]), "split differently");
}

fn read(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    super::decode(pieces, |input| decoder.next_frame(input))
}
