//! A caller: one connection with one request; the test decides when it reads, how much, and when it leaves.

use std::net::{IpAddr, Ipv4Addr};

use emojitrack_streamer::net::{Door, Net};

use crate::net::{PipeId, SimNet};
use crate::receiver::Receiver;
use crate::steps::Steps;

/// Bytes on the way to a caller that is to have room for everything.
pub const WIDE: usize = 64 * 1024 * 1024;

pub struct Caller {
    pipe: PipeId,
    pub receiver: Receiver,
    pub steps: Steps,
}

impl Caller {
    /// Connects and sends a request; so many bytes fit on the way back.
    pub fn call(net: &mut SimNet, request: &[u8], room: usize, mut steps: Steps) -> Caller {
        let client_ip = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 1));
        let pipe = net.dial(Door::Public, client_ip, room);
        let pipe = pipe.expect("the server listens");
        net.peer_write(pipe, request);
        steps.note(net.now(), "dialed, with room for", room, b"");
        steps.note(net.now(), "sent", request.len(), request);
        Caller {
            pipe,
            receiver: Receiver::default(),
            steps,
        }
    }

    /// Reads up to so many bytes; how many there were.
    pub fn read(&mut self, net: &mut SimNet, max: usize) -> Result<usize, String> {
        let bytes = self.read_raw(net, max);
        self.receiver.receive(&bytes)?;
        Ok(bytes.len())
    }

    /// Reads up to so many bytes, and leaves it to its user what to make of them.
    pub fn read_raw(&mut self, net: &mut SimNet, max: usize) -> Vec<u8> {
        let bytes = net.peer_read(self.pipe, max);
        if !bytes.is_empty() {
            self.steps.note(net.now(), "received", bytes.len(), &bytes);
        }
        bytes
    }

    /// Whether the server has ended the stream, or the connection, and all that it sent was read.
    pub fn sees_end(&self, net: &SimNet) -> bool {
        self.receiver.terminated || net.peer_sees_end(self.pipe)
    }

    /// Leaves, whatever there is to be read; its steps are kept.
    pub fn leave(mut self, net: &mut SimNet) -> (Receiver, Steps) {
        let events = self.receiver.events.len();
        self.steps.note(net.now(), "left after events", events, b"");
        net.peer_reset(self.pipe);
        (self.receiver, self.steps)
    }
}

/// The request for a stream, with the id of the event that came last, if there is one.
pub fn request(target: &str, is_http_11: bool, id: &str) -> Vec<u8> {
    let version = if is_http_11 { "1.1" } else { "1.0" };
    let mut head = format!("GET {target} HTTP/{version}\r\nHost: a\r\n");
    if !id.is_empty() {
        head.push_str(&format!("Last-Event-ID: {id}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
