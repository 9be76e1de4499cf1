//! Test messages: ids, tweets and messages of channels, ordinary and odd.

use emojitrack_streamer::random::Random;

const CODES: [&str; 24] = [
    "1F602",
    "2764",
    "1F60D",
    "267B",
    "2665",
    "1F62D",
    "1F60A",
    "1F612",
    "1F495",
    "1F618",
    "1F629",
    "263A",
    "1F1FA-1F1F8",
    "0023-20E3",
    "1F4C2",
    "A\nB",
    "A\rB",
    "A\r\nB",
    " A",
    "\u{2764}",
    "\"",
    "\\n",
    "",
    "1F4",
];

/// IDs of tweets; one is a prefix of another.
pub const IDS: [&str; 8] = [
    "1F602",
    "2764",
    "1F4C2",
    "1F4",
    "2665",
    "1F1FA-1F1F8",
    "\u{2764}",
    "a b",
];

/// A message of the emoji streams: its channel, its payload, and whether the server must take it.
pub fn emoji_message(
    random: &mut Random,
    number: u64,
    padding_max: u64,
) -> (String, Vec<u8>, bool) {
    let id = IDS[random.below(IDS.len() as u64) as usize];
    let code = CODES[random.below(CODES.len() as u64) as usize];
    let padding = "x".repeat(random.below(padding_max + 1) as usize);
    let tweet = format!("{{\"n\":{number},\"text\":\"{padding}\"}}");
    match random.below(40) {
        0 => (
            "stream.score_updates".to_owned(),
            b"\xff\xfe".to_vec(),
            false,
        ),
        1 => (
            format!("stream.tweet_updates.{id}\n"),
            tweet.into_bytes(),
            false,
        ),
        2 => ("stream.interaction.go".to_owned(), tweet.into_bytes(), true),
        3..=20 => (
            format!("stream.tweet_updates.{id}"),
            tweet.into_bytes(),
            true,
        ),
        _ => (
            "stream.score_updates".to_owned(),
            code.as_bytes().to_vec(),
            true,
        ),
    }
}

/// A message that begins with a name that no other one has; some have several lines.
pub fn payload(random: &mut Random, name: &str, padding_max: u64) -> String {
    let lines = ["", " ", "\n", "\r\n ", "\n\n", " id: 0-0\nevent: x\r"];
    let line = lines[random.below(lines.len() as u64) as usize];
    let line = if random.one_in(4) { line } else { "" };
    let padding = "y".repeat(random.below(padding_max + 1) as usize);
    format!("{name}:{line}{padding}")
}
