//! Inputs derived from others: parts are copied, removed, repeated, replaced by parts of other inputs, and changed by
//! a few bits.

use emojitrack_streamer::random::Random;

/// Bytes that mean something in one of the grammars.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b",",
    b";",
    b"=",
    b"&",
    b"?",
    b"/",
    b"%",
    b"%00",
    b"*",
    b"[",
    b"]",
    b"\\",
    b"\"",
    b"-",
    b"0",
    b"1",
    b"-1",
    b"99999999999999999999",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"HTTP/1.1",
    b"$-1\r\n",
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x9d\xa4",
];

/// Longer inputs are cut.
const BYTES_MAX: usize = 32 * 1024;

/// An input derived from one or two of `corpus`.
pub fn derive(corpus: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut pick = corpus[below(random, corpus.len())].to_vec();
    for _ in 0..=random.below(4) {
        change(&mut pick, corpus, random);
    }
    pick.truncate(BYTES_MAX);
    pick
}

fn change(input: &mut Vec<u8>, corpus: &[&[u8]], random: &mut Random) {
    let from = below(random, input.len() + 1);
    let to = (from + below(random, 16)).min(input.len());
    match random.below(6) {
        0 => drop(input.drain(from..to)),
        1 => {
            let part = input[from..to].to_vec();
            input.splice(from..from, part.repeat(1 + below(random, 4)));
        }
        2 => {
            let other = corpus[below(random, corpus.len())];
            let start = below(random, other.len() + 1);
            let part = &other[start..];
            input.splice(from..to, part[..below(random, part.len() + 1)].to_vec());
        }
        3 => {
            let token = TOKENS[below(random, TOKENS.len())];
            input.splice(from..to, token.to_vec());
        }
        4 => {
            let bytes: Vec<u8> = (from..to).map(|_| random.below(256) as u8).collect();
            input.splice(from..to, bytes);
        }
        _ => {
            if let Some(byte) = input.get_mut(from) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}
