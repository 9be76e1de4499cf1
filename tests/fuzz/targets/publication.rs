//! Publications: whatever is taken is within its bounds, and no larger than what was sent.

use emojitrack_streamer::http::publication;
use emojitrack_streamer::limits::NAMESPACES_MAX;

pub fn run(input: &[u8]) {
    let types: [&[u8]; 2] = [b"application/json", b"application/x-www-form-urlencoded"];
    for content_type in types {
        let Ok((publication, _)) = publication::parse(content_type, input) else {
            continue;
        };
        assert!((1..=NAMESPACES_MAX).contains(&publication.channels.len()));
        let channels = publication.channels.iter().map(String::len).sum::<usize>();
        assert!(channels + publication.message.len() <= input.len());
    }
}
