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
    let (mut decoder, mut values) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.next_value(&mut rest) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
        assert!(rest.is_empty(), "bytes were left that make no value");
    }
    (values, None)
}
