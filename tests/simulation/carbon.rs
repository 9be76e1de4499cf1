//! A simulated Graphite daemon: it reads slowly, crashes and returns with the broker, and checks that it gets complete
//! lines in order of time. Now and then it sends a flood of data, of which one turn must read only a part; the server
//! must log each outage only once.

use emojitrack_streamer::limits;
use emojitrack_streamer::random::Random;

use crate::net::{PipeId, SimNet};

#[derive(Default)]
pub struct Carbon {
    pipe: Option<PipeId>,
    unparsed: Vec<u8>,
    latest: u64,
    /// Bytes that the server had read of this connection in the turn before.
    heard: u64,
    /// Lines of the server's log that were looked at.
    log_lines: usize,
    /// What the server last said of us: whether we are away.
    is_said_away: Option<bool>,
    /// Lines received.
    pub lines: u64,
}

impl Carbon {
    pub fn connection_begins(&mut self, pipe: PipeId) {
        self.pipe = Some(pipe);
        self.unparsed.clear();
        self.heard = 0;
    }

    pub fn act(&mut self, net: &mut SimNet, random: &mut Random) {
        self.check_log(net);
        let Some(pipe) = self.pipe else { return };
        self.chatter(net, random, pipe);
        let max = [0, 100, usize::MAX][random.below(3) as usize];
        self.unparsed.extend(net.peer_read(pipe, max));
        let Some(end) = self.unparsed.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let whole: Vec<u8> = self.unparsed.drain(..=end).collect();
        let text = String::from_utf8(whole).expect("lines are text");
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [path, value, time] = words[..] else {
                panic!("graphite was sent {line:?}");
            };
            assert!(path.starts_with("sim."), "{line:?}");
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            let time: u64 = time.parse().expect("Unix seconds");
            assert!(time >= self.latest, "{line:?} came after {}", self.latest);
            self.latest = time;
            self.lines += 1;
        }
    }

    /// Called once for each of the server's turns.
    fn chatter(&mut self, net: &mut SimNet, random: &mut Random, pipe: PipeId) {
        let heard = net.taken_by_server(pipe);
        let in_one_turn = heard - self.heard;
        let bound = limits::READ_BYTES as u64;
        assert!(in_one_turn <= bound, "{in_one_turn} bytes in one turn");
        self.heard = heard;
        if random.one_in(5_000) {
            net.peer_write(pipe, &[b'?'; 8 * limits::READ_BYTES]);
        }
    }

    /// Outages are logged once when they begin and once when they end.
    fn check_log(&mut self, net: &SimNet) {
        for line in &net.lines()[self.log_lines..] {
            let Some(words) = line.strip_prefix("graphite: ") else {
                continue;
            };
            let is_away = words.ends_with("dropping metrics until it is back");
            let before = self.is_said_away.replace(is_away);
            assert_ne!(before, Some(is_away), "said again: {line}");
        }
        self.log_lines = net.lines().len();
    }

    /// Crashes.
    pub fn fall(&mut self, net: &mut SimNet) {
        if let Some(pipe) = self.pipe.take() {
            net.peer_reset(pipe);
        }
    }
}
