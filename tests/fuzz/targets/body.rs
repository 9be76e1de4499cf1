//! Request bodies: the end and the data are found alike however the bytes are split.

use emojitrack_streamer::http::RequestError;
use emojitrack_streamer::http::body::Body;
use emojitrack_streamer::http::head::Framing;

pub fn run(input: &[u8]) {
    let mut decisions = super::Input(input);
    let framing = match decisions.below(3) {
        0 => Framing::Length(decisions.byte().into()),
        _ => Framing::Chunked,
    };
    let bytes_max = u64::from(decisions.byte()) * 4;
    let Ok(body) = Body::new(framing, bytes_max) else {
        return;
    };
    let (pieces, bytes) = super::pieces(decisions.0);
    let whole = read(body, &[bytes]);
    assert_eq!(read(body, &pieces), whole, "split differently");
    if let Ok((data, len, _)) = whole {
        assert!(data.len() as u64 <= bytes_max && len <= bytes.len());
    }
}

/// The data, how many bytes belong to the body, and whether it has ended.
fn read(mut body: Body, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), RequestError> {
    let (mut data, mut buffer, mut total) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let (len, has_ended) = body.consume(&buffer, Some(&mut data))?;
        buffer.drain(..len);
        total += len;
        if has_ended {
            break;
        }
    }
    Ok((data, total, body.has_ended()))
}
