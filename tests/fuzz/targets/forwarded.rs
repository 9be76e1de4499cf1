//! `X-Forwarded-For`: what stands left of the trusted proxies' entries changes nothing.

use emojitrack_streamer::http::forwarded::client_address;

pub fn run(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    assert_eq!(client_address(&lines, 0), None);
    for hops in 1..4 {
        let address = client_address(&lines, hops);
        let entries = lines
            .iter()
            .flat_map(|line| line.split(|&byte| byte == b','));
        if entries.count() >= hops {
            let mut claimed = vec![&b"192.0.2.1, 192.0.2.2"[..]];
            claimed.extend(&lines);
            assert_eq!(client_address(&claimed, hops), address, "a claim counted");
        }
    }
}
