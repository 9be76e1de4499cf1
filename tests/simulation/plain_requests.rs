//! Plain requests: requests other than streams, and the reply that each must get.

use emojitrack_streamer::net::Door;
use emojitrack_streamer::random::Random;

/// Stands for a status that depends on what the broker does: 200, or 503.
pub const DEPENDS: u16 = 0;

/// Some requests on one connection, and the statuses that must come back through the only door that leads
/// there, or through any.
pub fn plain_requests(
    random: &mut Random,
    head_only: &mut Vec<bool>,
    only: Option<Door>,
) -> (Vec<u8>, Vec<u16>, bool) {
    const TABLE: [(&str, u16, bool); 17] = [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200, false),
        (
            "GET /admin/cluster.json HTTP/1.1\r\nHost: a\r\n\r\n",
            DEPENDS,
            false,
        ),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200, false),
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, false),
        (
            "GET /admin/status.json HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            false,
        ),
        (
            "HEAD /admin/status.json HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            false,
        ),
        (
            "HEAD /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            false,
        ),
        (
            "OPTIONS /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n",
            204,
            false,
        ),
        (
            "POST /subscribe/eps HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            405,
            false,
        ),
        (
            "PUT /subscribe/raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            405,
            false,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
            404,
            false,
        ),
        (
            "GET http://b/subscribe/details/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            false,
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            404,
            true,
        ),
        ("GET /nothing HTTP/1.0\r\n\r\n", 404, true),
        ("GET / HTTP/1.1\r\n\r\n", 400, true),
        ("nonsense\r\n\r\n", 400, true),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400,
            true,
        ),
    ];
    let mut bytes = Vec::new();
    let mut statuses = Vec::new();
    let mut ends = false;
    for _ in 0..1 + random.below(6) {
        let (text, status, is_last) = TABLE[random.below(TABLE.len() as u64) as usize];
        bytes.extend_from_slice(text.as_bytes());
        let is_private = text.contains(" /admin/") || text.contains(" /metrics ");
        // Whether the server is alive can be asked through any.
        let is_open = text.contains(" /healthz ");
        let is_elsewhere = only.is_some_and(|door| !is_open && is_private != (door == Door::Admin));
        // What cannot be understood is said before it is known where it leads.
        statuses.push(if is_elsewhere && status != 400 {
            404
        } else {
            status
        });
        head_only.push(text.starts_with("HEAD"));
        ends = is_last;
        if is_last {
            break;
        }
    }
    (bytes, statuses, ends)
}
