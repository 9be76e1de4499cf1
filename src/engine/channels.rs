//! Channels: messages of any backend, by name. It owns which names may be asked for, how a channel is found in the
//! hub, and which channels the source is asked for; it must not know a broker, nor how a frame is written.
//!
//! A channel is one or two children of [`Stream::Channels`]: one whose events are bare, and one whose events name
//! the channel (`?event=channel`). A message becomes a frame in each of the two that somebody wants, so that what
//! a client receives is a slice of the log in either form.

use super::conn::{Key, WriteState};
use super::event_id::EventId;
use super::hub::Stream;
use super::settings::Settings;
use super::stats::ChannelRow;
use super::{Effect, Engine, messages};
use crate::limits::{self, SEGMENT_BYTES_MAX};
use crate::proto::sse;
use crate::source::Message;

/// Whether a channel's events name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// They do not.
    Bare,
    /// `event:` is the channel.
    Named,
}

impl Form {
    const ALL: [Form; 2] = [Form::Bare, Form::Named];
}

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

/// The child of [`Stream::Channels`] that a channel is in this form.
pub fn segment_of(name: &[u8], form: Form) -> Vec<u8> {
    let mut segment = Vec::new();
    encode_segment(&mut segment, name, form);
    segment
}

/// The same in a buffer that is there already.
fn encode_segment(out: &mut Vec<u8>, name: &[u8], form: Form) {
    out.clear();
    out.push(match form {
        Form::Bare => b'.',
        Form::Named => b'@',
    });
    out.extend_from_slice(name);
}

/// The channel that such a child is a form of.
pub(super) fn name_of(segment: &[u8]) -> &[u8] {
    segment.get(1..).unwrap_or_default()
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

    /// Whether the source is there at the moment. What came while it was away is missing from the log: an id from
    /// before it went, or from before it was back, is worth nothing for a channel. `unanswered` is how many of our
    /// wishes for channels it has not answered yet.
    pub fn on_source_state(&mut self, is_live: bool, unanswered: usize) {
        self.heard = match is_live {
            true => self.asked.saturating_sub(unanswered as u64),
            false => self.asked,
        };
        self.source_answers = is_live;
        self.release_held();
        let was_away = std::mem::replace(&mut self.source_was_away, !is_live);
        // An id that is given out meanwhile is as little worth: each return may have missed something.
        if (was_away || !is_live) && !self.settings.channels.patterns.is_empty() {
            self.begin_afresh();
            self.channels_whole_from = self.log.head();
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

    /// Makes sure that nobody has the id of the place where the log ends. Who has everything up to now has that,
    /// and may lack what was not kept, without any frame's number saying so.
    pub(super) fn begin_afresh(&mut self) {
        if self.unnamed_place == Some(self.log.head()) {
            return;
        }
        self.make_room_for(0);
        // No namespace lists it.
        self.log.skip_number(Stream::Several.root());
        self.unnamed_place = Some(self.log.head());
    }

    /// The channels that have most subscribers, those first, and then by name. Ten thousand of them take some
    /// milliseconds.
    pub fn channels(&self, rows_max: usize) -> Vec<ChannelRow<'_>> {
        let children = self.hub.children(Stream::Channels);
        let mut rows: Vec<ChannelRow<'_>> = children
            .filter(|&(_, subscribers)| subscribers > 0)
            .map(|(segment, subscribers)| ChannelRow {
                name: std::str::from_utf8(name_of(segment)).unwrap_or_default(),
                subscribers,
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.name);
        rows.dedup_by(|later, earlier| {
            let is_same = later.name == earlier.name;
            if is_same {
                earlier.subscribers += later.subscribers;
            }
            is_same
        });
        rows.sort_by_key(|row| std::cmp::Reverse(row.subscribers));
        rows.truncate(rows_max);
        rows
    }

    /// Puts a message where those who asked for `asked`, its channel or a pattern, will find it.
    pub(super) fn publish_to_channel(&mut self, asked: &[u8], message: &Message) {
        for form in Form::ALL {
            encode_segment(&mut self.segment, asked, form);
            let segment = Some(self.segment.as_slice());
            let Some(namespace) = self.hub.destination(Stream::Channels, segment) else {
                continue;
            };
            let id = self.id_of_next_frame();
            let mut body = std::mem::take(&mut self.body);
            body.clear();
            id.encode_channel_line(&mut body);
            let event = (form == Form::Named).then_some(message.channel.as_slice());
            sse::encode_channel_event(&mut body, event, &message.payload);
            self.append(namespace, &body, self.now);
            self.body = body;
        }
    }

    /// Asks the source for channels that somebody has come for, and no longer for those that nobody is to come
    /// back to.
    pub(super) fn update_demand(&mut self) {
        for segment in self.hub.take_turned() {
            let name = name_of(&segment);
            let is_wanted = |form| {
                let segment = segment_of(name, form);
                self.hub.is_wanted(Stream::Channels, &segment)
            };
            let is_wanted = Form::ALL.into_iter().any(is_wanted);
            let text = std::str::from_utf8(name).unwrap_or_default();
            let is_pattern = is_pattern(text, &self.settings);
            if is_wanted && self.listened.insert(name.into()) {
                let name = name.into();
                self.asked += 1;
                self.effects.push_back(Effect::Listen { name, is_pattern });
            } else if !is_wanted && self.listened.remove(name) {
                let name = name.into();
                self.asked += 1;
                self.effects
                    .push_back(Effect::Unlisten { name, is_pattern });
            }
        }
    }

    /// The id that a client has which has everything, the next frame included.
    fn id_of_next_frame(&self) -> EventId {
        EventId {
            epoch: self.settings.epoch,
            sequence: self.log.head() + 1,
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
