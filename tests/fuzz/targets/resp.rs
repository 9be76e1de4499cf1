//! Redis replies: the same values come out however the bytes are split.

use emojitrack_streamer::broker::redis::resp::{Decoder, ReplyError};
use redis::Value;

pub fn run(input: &[u8]) {
    let (pieces, bytes) = super::pieces(input);
    let whole = read(&[bytes]);
    let split = read(&pieces);
    // What the parser says about an error depends on what it has seen.
    match (&whole.1, &split.1) {
        (Some(_), Some(_)) | (None, None) => {}
        (whole, split) => panic!("{whole:?} became {split:?}"),
    }
    assert_eq!(whole.0, split.0, "split differently");
}

fn read(pieces: &[&[u8]]) -> (Vec<Value>, Option<ReplyError>) {
    let mut decoder = Decoder::default();
    super::decode(pieces, |input| decoder.next_value(input))
}
