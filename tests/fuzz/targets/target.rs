//! Request targets: whatever is taken can be split and decoded, and a decoded segment has no slash.

use emojitrack_streamer::http::target::{decoded_query_values, query_values, segments, split};

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(target) = split(text) else { return };
    // `*` is a target without a path.
    if target.path.starts_with('/')
        && let Ok(segments) = segments(target.path)
    {
        assert!(segments.iter().all(|it| !it.contains(['/', '\0'])));
    }
    for name in ["channels", "ns", "lastEventId"] {
        let values: Vec<String> = query_values(target.query, name).collect();
        if let Some(decoded) = decoded_query_values(target.query, name) {
            assert_eq!(decoded, values, "the two ways to read {name} differ");
        }
    }
}
