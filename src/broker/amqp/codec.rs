//! The codec of AMQP 0-9-1: bytes in pieces of any size → frames → bytes. It limits the size of a frame and chooses which
//! methods are decoded how (the grammar is that of the `amq-protocol` crate). It does not know which are sent when.

use std::fmt;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, constants, parse_class};

use crate::limits::AMQP_FRAME_BYTES_MAX;

/// A frame that a broker may send, with its channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The first method: what the broker supports.
    Start {
        /// Of the protocol, such as (0, 9).
        version: (u8, u8),
        /// The login mechanisms, separated by spaces.
        mechanisms: String,
    },
    /// The broker closes the connection (channel 0) or a channel.
    Close(u16, Closing),
    /// A message with this routing key follows, for the consumer.
    Deliver(u16, Vec<u8>),
    /// The size of the body of the message.
    Header(u16, u64),
    /// A part of the body.
    Body(u16, Vec<u8>),
    /// A heartbeat.
    Heartbeat,
    /// Any other method that a broker may send.
    Method(u16, AMQPClass),
}

/// Why the broker closes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Such as 404.
    pub code: u16,
    /// The reason in words.
    pub text: String,
    /// The class and number of the method that caused it; zeros if none did.
    pub method: (u16, u16),
}

impl fmt::Display for Closing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.code, self.text)
    }
}

/// Why the broker's bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A protocol header, which a broker of another version answers with.
    OtherVersion,
    /// Not a type of frame: the other side does not speak AMQP.
    UnknownType(u8),
    /// A frame of this size, over this limit.
    TooLarge(usize, usize),
    /// A frame without the octet that marks its end.
    NoEnd,
    /// A frame that cannot be decoded, or that no broker sends: its class and method.
    Unreadable(u16, u16),
}

impl fmt::Display for FrameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::OtherVersion => write!(out, "the header of another AMQP version"),
            FrameError::UnknownType(byte) => {
                write!(out, "something other than AMQP: a frame of type {byte}")
            }
            FrameError::TooLarge(len, max) => {
                write!(out, "a frame of {len} bytes, although {max} is the limit")
            }
            FrameError::NoEnd => write!(out, "a frame without its end octet"),
            FrameError::Unreadable(class, method) => {
                write!(out, "an unreadable frame (method {class}.{method})")
            }
        }
    }
}

/// Type, channel and length, before the payload of a frame.
const HEAD_BYTES: usize = 7;

/// The size of a frame without its payload: its header and its end octet.
pub const FRAME_OVERHEAD_BYTES: usize = HEAD_BYTES + 1;

/// The class of the methods that transfer messages.
const BASIC: u16 = 60;

/// The methods, by class, whose fields the `amq-protocol` crate decodes. Other methods are not sent by a broker, or are
/// decoded here: the crate recurses into nested tables without limit, and rejects strings that are not UTF-8.
const DECODED_BY_CRATE: &[(u16, &[u16])] = &[
    (10, &[20, 30, 41, 60, 61]), // connection: secure, tune, open-ok, blocked, unblocked
    (20, &[11, 20]),             // channel: open-ok, flow
    (40, &[11]),                 // exchange: declare-ok
    (50, &[11, 21, 51]),         // queue: declare-ok, bind-ok, unbind-ok
    (BASIC, &[21, 30, 80, 120]), // consume-ok, cancel, ack, nack
    (85, &[11]),                 // confirm: select-ok
];

/// An incremental decoder of the bytes of one connection.
pub struct Decoder {
    /// The beginning of an incomplete frame.
    held: Vec<u8>,
    frame_max: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            held: Vec::new(),
            frame_max: AMQP_FRAME_BYTES_MAX,
        }
    }
}

impl Decoder {
    /// Sets the size of the largest frame, header and end octet included.
    pub fn agree(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// The size of the largest frame, in both directions.
    pub fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// The next frame, whose bytes are taken from the front of `input`; `None` once `input` is empty and the next frame is
    /// incomplete.
    ///
    /// # Errors
    /// Any [`FrameError`]; the decoder must not be used after one.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if self.held.is_empty() {
            // Most frames are complete, and are not copied.
            if let Some(len) = self.frame_len(input)?
                && let Some((frame, rest)) = input.split_at_checked(len)
            {
                *input = rest;
                return read_frame(frame).map(Some);
            }
        }
        self.hold(HEAD_BYTES, input);
        let Some(len) = self.frame_len(&self.held)? else {
            return Ok(None);
        };
        self.hold(len, input);
        if self.held.len() < len {
            return Ok(None);
        }
        let frame = read_frame(&self.held);
        self.held.clear();
        frame.map(Some)
    }

    /// Takes bytes until this many are held.
    fn hold(&mut self, wanted: usize, input: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.held.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.held.extend_from_slice(taken);
        *input = rest;
    }

    /// The length of the frame that begins there, once its header is complete.
    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        match bytes.first() {
            Some(
                &(constants::FRAME_METHOD
                | constants::FRAME_HEADER
                | constants::FRAME_BODY
                | constants::FRAME_HEARTBEAT),
            )
            | None => {}
            Some(b'A') => return Err(FrameError::OtherVersion),
            Some(&byte) => return Err(FrameError::UnknownType(byte)),
        }
        let Some(&[_, _, _, a, b, c, d]) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let payload = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let len = payload.saturating_add(FRAME_OVERHEAD_BYTES);
        if len > self.frame_max {
            return Err(FrameError::TooLarge(len, self.frame_max));
        }
        Ok(Some(len))
    }
}

/// Appends a method.
pub fn encode_method(out: &mut Vec<u8>, channel: u16, method: AMQPClass) {
    encode(out, &AMQPFrame::Method(channel, method));
}

/// Appends the header and body of a message, in frames of at most `frame_max` bytes.
pub fn encode_content(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: usize) {
    let header = AMQPContentHeader {
        class_id: BASIC,
        body_size: body.len() as u64,
        properties: BasicProperties::default(),
    };
    encode(out, &AMQPFrame::Header(channel, header));
    let payload_max = frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1);
    for part in body.chunks(payload_max) {
        // The crate would need a copy of the part.
        out.push(constants::FRAME_BODY);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
        out.push(constants::FRAME_END);
    }
}

/// The most bytes that [`encode_content`] appends.
pub fn content_bytes_max(body: usize, frame_max: usize) -> usize {
    let payload_max = frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1);
    body + (body / payload_max + 4) * FRAME_OVERHEAD_BYTES
}

/// Appends a frame.
pub fn encode(out: &mut Vec<u8>, frame: &AMQPFrame) {
    // Writing to a vector cannot fail.
    if let Ok(written) = gen_frame(frame)(WriteContext::from(Vec::new())) {
        out.extend_from_slice(&written.into_inner().0);
    }
}

/// Decodes a complete frame, whose type is known.
fn read_frame(frame: &[u8]) -> Result<Frame, FrameError> {
    let mut fields = Fields(frame);
    let head = (fields.byte(), fields.short(), fields.number(4));
    let Some((&constants::FRAME_END, payload)) = fields.0.split_last() else {
        return Err(FrameError::NoEnd);
    };
    let (Some(kind), Some(channel), Some(_)) = head else {
        return Err(FrameError::NoEnd);
    };
    match kind {
        constants::FRAME_BODY => Ok(Frame::Body(channel, payload.to_vec())),
        constants::FRAME_HEARTBEAT => Ok(Frame::Heartbeat),
        constants::FRAME_HEADER => {
            read_header(channel, payload).ok_or(FrameError::Unreadable(BASIC, 0))
        }
        _ => read_method(channel, payload),
    }
}

/// The properties of a message are ignored.
fn read_header(channel: u16, payload: &[u8]) -> Option<Frame> {
    let mut fields = Fields(payload);
    let (class, _weight, size) = (fields.short()?, fields.short()?, fields.number(8)?);
    (class == BASIC).then_some(Frame::Header(channel, size))
}

fn read_method(channel: u16, payload: &[u8]) -> Result<Frame, FrameError> {
    let mut fields = Fields(payload);
    let class = fields.short().unwrap_or_default();
    let method = fields.short().unwrap_or_default();
    let is_known = |row: &(u16, &[u16])| row.0 == class && row.1.contains(&method);
    let frame = match (class, method) {
        (10, 10) => read_start(fields),
        (10, 50) | (20, 40) => read_close(fields).map(|closing| Frame::Close(channel, closing)),
        (BASIC, 60) => read_routing_key(fields).map(|key| Frame::Deliver(channel, key)),
        _ if DECODED_BY_CRATE.iter().any(is_known) => parse_class(payload)
            .ok()
            .filter(|(rest, _)| rest.is_empty())
            .map(|(_, method)| Frame::Method(channel, method)),
        _ => None,
    };
    frame.ok_or(FrameError::Unreadable(class, method))
}

fn read_start(mut fields: Fields<'_>) -> Option<Frame> {
    let version = (fields.byte()?, fields.byte()?);
    let _properties = fields.long_string()?;
    let mechanisms = String::from_utf8_lossy(fields.long_string()?).into_owned();
    Some(Frame::Start {
        version,
        mechanisms,
    })
}

fn read_close(mut fields: Fields<'_>) -> Option<Closing> {
    Some(Closing {
        code: fields.short()?,
        text: String::from_utf8_lossy(fields.short_string()?).into_owned(),
        method: (fields.short()?, fields.short()?),
    })
}

fn read_routing_key(mut fields: Fields<'_>) -> Option<Vec<u8>> {
    let _consumer = fields.short_string()?;
    let (_delivery, _is_redelivered) = (fields.number(8)?, fields.byte()?);
    let _exchange = fields.short_string()?;
    fields.short_string().map(<[u8]>::to_vec)
}

/// The rest of a payload, whose fields are taken from its front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// An integer of this size.
    fn number(&mut self, len: usize) -> Option<u64> {
        let digits = self.bytes(len)?.iter();
        Some(digits.fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    fn byte(&mut self) -> Option<u8> {
        self.number(1).map(|number| number as u8)
    }

    fn short(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    fn short_string(&mut self) -> Option<&'a [u8]> {
        let len = self.number(1)?;
        self.bytes(len as usize)
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let len = self.number(4)?;
        self.bytes(usize::try_from(len).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{basic, channel, connection, queue};
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::random::Random;

    fn method(channel: u16, method: AMQPClass) -> Vec<u8> {
        let mut out = Vec::new();
        encode_method(&mut out, channel, method);
        out
    }

    fn basic(method: basic::AMQPMethod) -> AMQPClass {
        AMQPClass::Basic(method)
    }

    fn tune() -> AMQPClass {
        AMQPClass::Connection(connection::AMQPMethod::Tune(connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        }))
    }

    fn start() -> Vec<u8> {
        let mut inner = FieldTable::default();
        inner.insert("basic.nack".into(), AMQPValue::Boolean(true));
        let mut server_properties = FieldTable::default();
        server_properties.insert("capabilities".into(), AMQPValue::FieldTable(inner));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties,
            mechanisms: "PLAIN AMQPLAIN".into(),
            locales: "en_US".into(),
        };
        method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Start(start)),
        )
    }

    fn deliver() -> Vec<u8> {
        let deliver = basic::Deliver {
            consumer_tag: "tag".into(),
            delivery_tag: 7,
            redelivered: false,
            exchange: "exchange".into(),
            routing_key: "a.b".into(),
        };
        method(1, basic(basic::AMQPMethod::Deliver(deliver)))
    }

    /// What a broker may send, and what it says.
    fn broker_frames() -> Vec<(Vec<u8>, Vec<Frame>)> {
        let mut content = Vec::new();
        encode_content(&mut content, 1, b"abcde", FRAME_OVERHEAD_BYTES + 2);
        let mut heartbeat = Vec::new();
        encode(&mut heartbeat, &AMQPFrame::Heartbeat);
        let closing = |class_id, method_id| Closing {
            code: 404,
            text: "NOT_FOUND - no \u{e9}".to_owned(),
            method: (class_id, method_id),
        };
        let close = channel::Close {
            reply_code: 404,
            reply_text: "NOT_FOUND - no \u{e9}".into(),
            class_id: 50,
            method_id: 20,
        };
        let bound = AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}));
        let ack = basic(basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: 9,
            multiple: true,
        }));
        let version = (0, 9);
        let mechanisms = "PLAIN AMQPLAIN".to_owned();
        vec![
            (
                start(),
                vec![Frame::Start {
                    version,
                    mechanisms,
                }],
            ),
            (method(0, tune()), vec![Frame::Method(0, tune())]),
            (heartbeat, vec![Frame::Heartbeat]),
            (method(1, bound.clone()), vec![Frame::Method(1, bound)]),
            (deliver(), vec![Frame::Deliver(1, b"a.b".to_vec())]),
            (
                content,
                vec![
                    Frame::Header(1, 5),
                    Frame::Body(1, b"ab".to_vec()),
                    Frame::Body(1, b"cd".to_vec()),
                    Frame::Body(1, b"e".to_vec()),
                ],
            ),
            (method(2, ack.clone()), vec![Frame::Method(2, ack)]),
            (
                method(2, AMQPClass::Channel(channel::AMQPMethod::Close(close))),
                vec![Frame::Close(2, closing(50, 20))],
            ),
        ]
    }

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = decoder.next_frame(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty(), "every byte is taken in");
            assert!(decoder.held.len() <= AMQP_FRAME_BYTES_MAX);
        }
        Ok(frames)
    }

    #[test]
    fn every_split_of_a_broker_s_words_gives_the_same_frames() {
        let (bytes, frames): (Vec<_>, Vec<_>) = broker_frames().into_iter().unzip();
        let (bytes, frames) = (bytes.concat(), frames.concat());
        for split in 0..=bytes.len() {
            let (first, second) = bytes.split_at(split);
            assert_eq!(
                decode(&[first, second]).unwrap(),
                frames,
                "split at {split}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), frames, "byte by byte");
    }

    #[test]
    fn what_is_no_frame_is_an_error_that_says_why() {
        let mut no_end = method(0, tune());
        *no_end.last_mut().unwrap() = 0;
        let mut too_long = method(0, tune());
        too_long[6] += 1;
        too_long.insert(too_long.len() - 1, 0);
        let mut cut = deliver();
        cut[6] -= 1;
        cut.remove(cut.len() - 2);
        let at_most = AMQP_FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES;
        let body_head = |len: usize| [&[3, 0, 1][..], &(len as u32).to_be_bytes()].concat();
        let table: &[(&[u8], Result<usize, FrameError>)] = &[
            (
                b"HTTP/1.1 400 Bad Request",
                Err(FrameError::UnknownType(b'H')),
            ),
            (b"\0", Err(FrameError::UnknownType(0))),
            (b"AMQP\0\0\x09\x01", Err(FrameError::OtherVersion)),
            (&no_end, Err(FrameError::NoEnd)),
            (&too_long, Err(FrameError::Unreadable(10, 30))),
            (&cut, Err(FrameError::Unreadable(60, 60))),
            // A method that only clients send, and one that nobody does.
            (
                b"\x01\0\0\0\0\0\x04\0\x3c\0\x28\xce",
                Err(FrameError::Unreadable(60, 40)),
            ),
            (
                b"\x01\0\0\0\0\0\x04\xff\xff\xff\xff\xce",
                Err(FrameError::Unreadable(0xffff, 0xffff)),
            ),
            (b"\x01\0\0\0\0\0\0\xce", Err(FrameError::Unreadable(0, 0))),
            // A header of another class, and one without its length.
            (
                b"\x02\0\x01\0\0\0\x0c\0\x0a\0\0\0\0\0\0\0\0\0\0\xce",
                Err(FrameError::Unreadable(60, 0)),
            ),
            (
                b"\x02\0\x01\0\0\0\x04\0\x3c\0\0\xce",
                Err(FrameError::Unreadable(60, 0)),
            ),
            (&body_head(at_most), Ok(0)),
            (
                &body_head(at_most + 1),
                Err(FrameError::TooLarge(
                    AMQP_FRAME_BYTES_MAX + 1,
                    AMQP_FRAME_BYTES_MAX,
                )),
            ),
            (
                b"\x03\0\x01\xff\xff\xff\xff",
                Err(FrameError::TooLarge(
                    u32::MAX as usize + 8,
                    AMQP_FRAME_BYTES_MAX,
                )),
            ),
        ];
        for (bytes, expected) in table {
            let decoded = decode(&[bytes]).map(|frames| frames.len());
            assert_eq!(decoded, *expected, "{bytes:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(
                decode(&single).map(|frames| frames.len()),
                *expected,
                "{bytes:?}"
            );
        }
        let mut decoder = Decoder::default();
        decoder.agree(4096);
        let error = decoder.next_frame(&mut &body_head(4096)[..]);
        assert_eq!(error, Err(FrameError::TooLarge(4104, 4096)));
    }

    /// Others publish under names that are no text, and brokers cut their words at 255 bytes.
    #[test]
    fn what_is_not_utf_8_is_read_all_the_same() {
        let mut bytes = deliver();
        let at = bytes.len() - 2;
        bytes[at] = 0xff;
        let frames = decode(&[&bytes]).unwrap();
        assert_eq!(frames, [Frame::Deliver(1, b"a.\xff".to_vec())]);
        let close = b"\x01\0\0\0\0\0\x0c\0\x0a\0\x32\x01\x40\x01\xc3\0\0\0\0\xce";
        let frames = decode(&[close]).unwrap();
        let closing = Closing {
            code: 320,
            text: "\u{fffd}".to_owned(),
            method: (0, 0),
        };
        assert_eq!(frames, [Frame::Close(0, closing)]);
    }

    #[test]
    fn a_table_is_not_followed_however_deep_it_is_nested() {
        let mut table: Vec<u8> = Vec::new();
        for _ in 0..20_000 {
            let len = table.len() as u32;
            let outer = [&len.to_be_bytes()[..], &table].concat();
            table = [&b"\0F"[..], &outer].concat();
            if table.len() > 100_000 {
                break;
            }
        }
        let mut payload = b"\0\x0a\0\x0a\0\x09".to_vec();
        payload.extend_from_slice(&(table.len() as u32).to_be_bytes());
        payload.extend_from_slice(&table);
        payload.extend_from_slice(b"\0\0\0\x05PLAIN\0\0\0\0");
        let len = (payload.len() as u32).to_be_bytes();
        let frame = [&b"\x01\0\0"[..], &len, &payload, b"\xce"].concat();
        let frames = decode(&[&frame]).unwrap();
        assert!(matches!(&frames[..], [Frame::Start { mechanisms, .. }] if mechanisms == "PLAIN"));
    }

    #[test]
    fn bytes_that_mean_nothing_are_an_error_or_waited_for_and_never_a_panic() {
        let words = broker_frames()
            .into_iter()
            .map(|(bytes, _)| bytes)
            .collect::<Vec<_>>()
            .concat();
        let mut random = Random::new(0xa391);
        let mut errors = 0;
        for round in 0..20_000 {
            let mut bytes = match round % 3 {
                0 => (0..random.below(200))
                    .map(|_| random.next_u64() as u8)
                    .collect(),
                // Cut off in the middle, or with its middle missing.
                1 => words[..random.below(words.len() as u64) as usize].to_vec(),
                _ => {
                    let cut = random.below(words.len() as u64) as usize;
                    let skipped = random.below((words.len() - cut) as u64) as usize;
                    [&words[..cut], &words[cut + skipped..]].concat()
                }
            };
            for _ in 0..random.below(3) {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.next_u64() as u8;
                }
            }
            let split = random.below(bytes.len() as u64 + 1) as usize;
            let (first, second) = bytes.split_at(split);
            errors += u32::from(decode(&[first, second]).is_err());
        }
        assert!(errors > 5_000, "{errors}");
    }

    #[test]
    fn contents_are_split_into_frames_that_fit() {
        for len in [0, 1, 91, 92, 93, 184, 1_000] {
            let body = vec![b'x'; len];
            let mut bytes = Vec::new();
            encode_content(&mut bytes, 2, &body, 100);
            assert!(bytes.len() <= content_bytes_max(len, 100), "{len}");
            let mut decoder = Decoder::default();
            decoder.agree(100);
            let (mut input, mut got) = (&bytes[..], Vec::new());
            assert_eq!(
                decoder.next_frame(&mut input),
                Ok(Some(Frame::Header(2, len as u64)))
            );
            while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                let Frame::Body(2, part) = frame else {
                    unreachable!("{frame:?}");
                };
                got.extend_from_slice(&part);
            }
            assert_eq!(got, body);
        }
    }
}
