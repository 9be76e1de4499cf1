//! Channels: messages of any backend, by name. It owns which names may be asked for, and which channels the source is
//! asked for; it must not know a broker, nor how an event is written.

use super::conn::{Key, WriteState};
use super::settings::Settings;
use super::stats::ChannelRow;
use super::{Effect, Engine, messages};
use crate::broker::Message;
use crate::bus::{Stream, sse};
use crate::limits::{self, SEGMENT_BYTES_MAX};

/// Whether a channel can have this name at all.
pub fn is_name(name: &str) -> bool {
    (1..=SEGMENT_BYTES_MAX).contains(&name.len()) && !sse::has_control_bytes(name.as_bytes())
}

/// Whether a channel of this name may be asked for, or published to.
pub fn is_allowed(name: &str, settings: &Settings) -> bool {
    let mut globs = settings.channels.patterns.iter();
    !messages::is_own_channel(name.as_bytes())
        && globs.any(|glob| glob.matches(name) || glob.text() == name)
}

/// Whether this name stands for all channels that match it: whoever may ask for just these may ask for the pattern.
pub fn is_pattern(name: &str, settings: &Settings) -> bool {
    let mut globs = settings.channels.patterns.iter();
    globs.any(|glob| glob.is_pattern() && glob.text() == name)
}

impl Engine {
    /// A message came that is for the embedded broker to deliver, or from one that does not say whose pattern it
    /// matched. Whoever may publish there is not one who may feed the emoji streams, or close streams.
    pub fn on_channel_message(&mut self, channel: &[u8], payload: &[u8]) {
        if messages::is_own_channel(channel) {
            self.counters.dropped_unknown += 1;
            return;
        }
        let Ok(name) = std::str::from_utf8(channel) else {
            self.counters.dropped_encoding += 1;
            return;
        };
        let globs = self.settings.channels.patterns.iter();
        let matching = globs.filter(|glob| glob.is_pattern() && glob.matches(name));
        let patterns: Vec<Vec<u8>> = matching.map(|glob| glob.text().into()).collect();
        let message = |pattern| Message {
            pattern,
            channel: channel.to_vec(),
            payload: payload.to_vec(),
        };
        // A pattern can be published to by its own name, and matches that: it must not come twice.
        if !is_pattern(name, &self.settings) {
            self.on_message(&message(None));
        }
        for pattern in patterns {
            self.on_message(&message(Some(pattern)));
        }
    }

    /// Whether the source is there at the moment. What came while it was away is missing from the log: a
    /// position from before it went, or from before it was back, cannot resume a channel. `unanswered` is how many of our
    /// wishes for channels it has not answered yet.
    pub fn on_source_state(&mut self, is_live: bool, unanswered: usize) {
        self.heard = match is_live {
            true => self.asked.saturating_sub(unanswered as u64),
            false => self.asked,
        };
        self.source_answers = is_live;
        self.release_held();
        let was_away = std::mem::replace(&mut self.source_was_away, !is_live);
        // A position that is given out meanwhile cannot be resumed either: each return may have missed something.
        if (was_away || !is_live) && !self.settings.channels.patterns.is_empty() {
            self.bus.publish_break(Stream::Channels);
        }
    }

    /// Has a stream begin when the source has answered for all channels that it was asked for until now: whoever
    /// sees it begin may have somebody publish at once.
    pub(super) fn hold_until_heard(&mut self, key: Key) {
        self.update_demand();
        let is_answered = !self.source_answers || self.heard >= self.asked;
        if let Some(conn) = self.conns.get_mut(key).filter(|_| !is_answered) {
            debug_assert_eq!(
                conn.write,
                WriteState::Idle,
                "its request was not taken yet"
            );
            conn.write = WriteState::Held;
            let until = self.now + limits::HOLD_MAX;
            self.held.push_back((self.asked, until, key));
        }
    }

    /// Lets the streams begin that need not wait any longer.
    pub(super) fn release_held(&mut self) {
        while let Some(&(asked, until, key)) = self.held.front()
            && (asked <= self.heard || until <= self.now || self.stopping)
        {
            self.held.pop_front();
            if let Some(conn) = self.conns.get_mut(key) {
                conn.write = WriteState::Idle;
                self.queue_write(key);
            }
        }
    }

    /// The channels that have most subscribers, those first, and then by name. Ten thousand of them take some
    /// milliseconds.
    pub fn channels(&self, rows_max: usize) -> Vec<ChannelRow<'_>> {
        let children = self.bus.line().registry().children(Stream::Channels);
        let mut rows: Vec<ChannelRow<'_>> = children
            .filter(|&(_, subscribers)| subscribers > 0)
            .map(|(name, subscribers)| ChannelRow {
                name: std::str::from_utf8(name).unwrap_or_default(),
                subscribers,
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.name);
        rows.sort_by_key(|row| std::cmp::Reverse(row.subscribers));
        rows.truncate(rows_max);
        rows
    }

    /// Asks the source for channels that somebody has come for, and no longer for those that nobody is to come
    /// back to.
    pub(super) fn update_demand(&mut self) {
        while let Some(name) = self.bus.poll_demand() {
            let text = std::str::from_utf8(&name).unwrap_or_default();
            let is_pattern = is_pattern(text, &self.settings);
            let registry = self.bus.line().registry();
            let is_wanted = registry.is_wanted((Stream::Channels, Some(&name)));
            if is_wanted && self.listened.insert(name.clone()) {
                self.asked += 1;
                self.effects.push_back(Effect::Listen { name, is_pattern });
            } else if !is_wanted && self.listened.remove(&name) {
                self.asked += 1;
                self.effects
                    .push_back(Effect::Unlisten { name, is_pattern });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::settings::tests::settings;
    use crate::proto::glob::Glob;
    use crate::time::Time;

    /// Runs a turn in which a client has this to be read, and takes all that it is sent: how many channels the
    /// source was asked for in it, and what was written.
    fn turn(engine: &mut Engine, now: Time, input: &mut Option<&str>) -> (usize, Vec<u8>) {
        let mut asked = 0;
        let mut written = Vec::new();
        engine.start_turn(now, 0);
        engine.on_time();
        while let Some((key, _)) = engine.poll_read() {
            match input.take() {
                Some(text) => engine.on_input(key, text.as_bytes()),
                None => engine.on_drained(key),
            }
        }
        while let Some(write) = engine.poll_write() {
            let len = write.bytes.len();
            written.extend_from_slice(write.bytes);
            engine.on_written(Ok(len));
        }
        while let Some(effect) = engine.poll_effect() {
            asked += usize::from(matches!(effect, Effect::Listen { .. }));
        }
        engine.end_turn(now);
        engine.check_invariants();
        (asked, written)
    }

    #[test]
    fn a_stream_waits_for_the_source_whatever_its_connection_was_used_for_before() {
        let other = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
        let stream = "GET /?channels=a HTTP/1.1\r\nHost: a\r\n\r\n";
        let together = format!("{other}{stream}");
        let table: [&[&str]; 3] = [&[stream], &[other, stream], &[&together]];
        // Of two writes in a turn, one is for those who are written to by themselves, and the reply is that.
        for (inputs, writes_per_turn) in table.into_iter().flat_map(|it| [(it, 2), (it, 8)]) {
            let mut now = Time::from_micros(1_000_000);
            let mut settings = settings();
            settings.channels.patterns = vec![Glob::new("*")];
            settings.admission.connections_max = 2;
            settings.admission.connections_per_ip_max = 2;
            settings.pacing.reads_per_turn = 8;
            settings.pacing.writes_per_turn = writes_per_turn;
            let mut engine = Engine::new(settings, now, 0);
            engine.on_source_state(true, 0);
            let key = engine.on_accept([127, 0, 0, 1].into(), false);
            let mut asked = 0;
            let mut written = Vec::new();
            let mut inputs_left = inputs.iter().copied();
            let mut input = inputs_left.next();
            while input.is_some() || engine.has_work() {
                now = now + Duration::from_millis(1);
                engine.on_readable(key);
                let (count, bytes) = turn(&mut engine, now, &mut input);
                asked += count;
                written.extend(bytes);
                let text = String::from_utf8_lossy(&written);
                assert!(!text.contains("event-stream"), "it has begun: {text:?}");
                // The next comes at once, as from a client that has its reply while we have more to do.
                input = input.or_else(|| inputs_left.next());
            }
            assert_eq!(asked, 1, "{inputs:?}");
            // The answer has come.
            engine.on_source_state(true, 0);
            let (_, bytes) = turn(&mut engine, now, &mut None);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains("event-stream"), "it has not begun: {text:?}");
        }
    }
}
