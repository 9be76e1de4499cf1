//! Request heads: what was decided of the beginning of a head holds for the whole.

use emojitrack_streamer::http::head::parse_head;
use emojitrack_streamer::limits::HEAD_BYTES_MAX;

pub fn run(input: &[u8]) {
    let (pieces, bytes) = super::pieces(input);
    let whole = parse_head(bytes);
    if let Ok(Some((_, len))) = &whole {
        assert!(*len <= bytes.len() && *len <= HEAD_BYTES_MAX);
    }
    let mut len = 0;
    for piece in pieces {
        len += piece.len();
        let part = parse_head(&bytes[..len]);
        if part != Ok(None) {
            assert_eq!(part, whole, "the first {len} bytes were read differently");
            return;
        }
    }
    assert_eq!(whole, Ok(None));
}
