//! The Redis protocol, from the broker's side.

/// A string of a reply.
pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What confirms that something is subscribed to, or is so no longer.
pub fn confirmation(kind: &str, topic: &str, count: usize) -> String {
    let kind = kind.to_lowercase();
    format!("*3\r\n{}{}:{count}\r\n", bulk(&kind), bulk(topic))
}

/// A message, by its channel's name or by a pattern.
pub fn message(pattern: Option<&str>, channel: &str, payload: &[u8]) -> Vec<u8> {
    let head = match pattern {
        Some(pattern) => format!("*4\r\n{}{}", bulk("pmessage"), bulk(pattern)),
        None => format!("*3\r\n{}", bulk("message")),
    };
    let len = payload.len();
    let head = format!("{head}{}${len}\r\n", bulk(channel));
    [head.as_bytes(), payload, b"\r\n"].concat()
}

/// Takes one whole command from the front.
pub fn take_command(bytes: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let rest = bytes.get(*at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")? + *at;
        let text = String::from_utf8_lossy(&bytes[*at..end]).into_owned();
        *at = end + 2;
        Some(text)
    };
    let count: usize = line(&mut at)?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len: usize = line(&mut at)?.strip_prefix('$')?.parse().ok()?;
        let word = bytes.get(at..at + len)?;
        words.push(String::from_utf8_lossy(word).into_owned());
        at += len + 2;
    }
    if at > bytes.len() {
        return None;
    }
    bytes.drain(..at);
    Some(words)
}
