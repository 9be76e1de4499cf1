//! One connection at work: how input, output, commands and time change what it is doing.
//!
//! A connection reads a request and is *rendering* until its owner has decided how to answer it. Then it reads the next
//! one, or streams, or polls, or drains what is left to be sent, lingers until the client closes, and is closed. A
//! command that does not fit the state is ignored: the client may have gone since it was decided.

use std::io;
use std::mem;

use super::connections::Shared;
use super::error::RequestError;
use super::event::{Action, Event, Origin};
use super::outbox::Outbox;
use super::reading::{BodyUse, Reading};
use super::reply::{self, Reply};
use super::slot::{Discarded, Due, NEVER, Peer, ReadState, Slot, State, Streaming, WriteState};
use super::{CloseReason, Request};
use crate::limits;
use crate::time::Time;

/// A connection, and what it shares with the others.
pub struct Connection<'a> {
    slot: &'a mut Slot,
    shared: &'a mut Shared,
}

impl<'a> Connection<'a> {
    pub(super) fn new(slot: &'a mut Slot, shared: &'a mut Shared) -> Connection<'a> {
        Connection { slot, shared }
    }

    /// Waits for a request.
    pub(super) fn begin(&mut self, reading: Box<Reading>) {
        let span = match reading.is_reused() {
            true => self.shared.options.idle,
            false => limits::REQUEST_DEADLINE,
        };
        self.enter(State::Reading(reading), self.shared.now + span);
    }

    /// The socket's readiness has changed.
    pub fn handle_ready(&mut self, readable: bool, writable: bool, hung_up: bool) {
        if hung_up && self.slot.peer == Peer::Ended {
            // Nothing is left to be read.
            return self.close(self.slot.hang_up_reason());
        }
        if hung_up {
            self.slot.peer = Peer::HungUp;
        }
        if (readable || hung_up) && self.slot.read == ReadState::Drained {
            self.slot.read = ReadState::Readable;
        }
        self.shared.queue_read(self.slot);
        if writable && self.slot.write == WriteState::Blocked {
            self.slot.write = WriteState::Idle;
            self.shared.queue_write(self.slot);
            // The keepalive is shorter than patience, so it is due earlier now.
            self.shared.arm(self.slot);
        }
    }

    /// Bytes were read. They may be discarded: reading goes on because that is how the end of a connection shows.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        let now = self.shared.now;
        match &mut self.slot.state {
            State::Reading(reading) => {
                self.slot.deadline = reading.deadline_after(bytes, self.slot.deadline, now);
                self.shared
                    .with_reading(self.slot, |reading| reading.push(bytes));
                self.poll_request();
            }
            // This may be the next request.
            State::Rendering(reading)
            | State::Polling(reading)
            | State::Ending(_, Some(reading)) => reading.push(bytes),
            State::Streaming(stream) => {
                stream.keep_alive = false;
                if stream.discarded.add(bytes.len(), now) {
                    return self.close(CloseReason::Protocol);
                }
            }
            State::Ending(_, None) | State::Draining(_) | State::Lingering(_) | State::Closed => {}
        }
        self.shared.queue_read(self.slot);
    }

    /// A read would have blocked.
    pub fn handle_read_would_block(&mut self) {
        self.slot.read = ReadState::Drained;
        self.shared.idle.update(self.slot);
        self.stop_reading();
        if self.slot.peer == Peer::HungUp {
            self.close(self.slot.hang_up_reason());
        }
    }

    /// The client has sent its last byte. It may have closed the connection, or only shut down its side (as `nc -N`
    /// does); sending something tells which.
    pub fn handle_end(&mut self) {
        self.slot.read = ReadState::Drained;
        let before = mem::replace(&mut self.slot.peer, Peer::Ended);
        match self.slot.state {
            _ if before == Peer::HungUp => self.close(self.slot.hang_up_reason()),
            State::Streaming(_) | State::Polling(_) if before == Peer::Open => {
                self.shared.emit(Event::PeerEnded(self.slot.key));
            }
            State::Reading(ref mut reading) => {
                // Complete requests that are still in the buffer are answered first.
                reading.handle_end();
                self.poll_request();
            }
            State::Lingering(reason) => self.close(reason),
            _ => {}
        }
    }

    /// A system call on the socket failed.
    pub fn handle_failure(&mut self, error: &io::Error) {
        self.close(self.slot.failure_reason(error));
    }

    /// The kernel accepted so many bytes of the outbox.
    pub fn handle_outbox_written(&mut self, taken: usize) {
        self.slot.outbox.advance(taken);
        // Then follow the stream's events, the next request, or the end.
        self.handle_stream_written(true);
    }

    /// The kernel accepted bytes of a stream; `has_more` is whether more of them are for this client alone.
    pub fn handle_stream_written(&mut self, has_more: bool) {
        self.slot.progress_at = self.shared.now;
        if has_more || !self.slot.is_subscribed() || !self.slot.outbox.is_empty() {
            self.shared.queue_write(self.slot);
        }
    }

    /// A write would have blocked.
    pub fn handle_write_would_block(&mut self) {
        self.slot.write = WriteState::Blocked;
        self.shared.arm(self.slot);
    }

    /// Neither the outbox nor the owner has anything for this client: goes on to the next request, or to the end.
    pub fn handle_nothing_to_write(&mut self) {
        match self.slot.state {
            State::Reading(_) => {
                self.poll_request();
                self.shared.idle.update(self.slot);
            }
            State::Ending(..) => self.finish_stream(),
            State::Draining(reason) => self.shut_down(reason),
            _ => {}
        }
    }

    pub(super) fn handle_timer(&mut self, at: Time) {
        if self.slot.armed_at != at {
            return;
        }
        self.slot.armed_at = NEVER;
        let keepalive = self.shared.options.keepalive;
        match self.slot.due(self.shared.now, keepalive) {
            Due::Later => self.shared.arm(self.slot),
            Due::Never => {}
            Due::Remind(event) => self.remind(event),
            Due::Close(reason) => self.close(reason),
            Due::Reject(error) => self.reject(error),
        }
    }

    /// Reads a request's body of at most so many bytes; [`Event::Body`] follows when it is complete. This follows
    /// [`Event::Request`], and gives the request back.
    pub fn read_body(&mut self, request: Box<Request>, bytes_max: u64, used: BodyUse) {
        let Some(mut reading) = self.take_rendering() else {
            return;
        };
        let begun = reading.begin_body(request, bytes_max, used);
        // The deadline is still that of the whole request.
        self.enter(State::Reading(reading), self.slot.deadline);
        match begun {
            Err(error) => return self.reject(error),
            Ok(true) => {
                self.slot.outbox.buffer().extend_from_slice(reply::CONTINUE);
                self.shared.queue_write(self.slot);
            }
            Ok(false) => {}
        }
        self.poll_request();
    }

    /// Answers a request or a long poll. The next request follows, unless the client does not want that, or announced a
    /// body that was not read, so that it is not known where the next request begins.
    pub fn complete_request(&mut self, reply: &Reply) {
        self.complete(reply, CloseReason::Answered);
    }

    /// Answers a request for a stream with all that there will be of it.
    pub fn complete_stream(&mut self, reply: &Reply, reason: CloseReason) {
        if self.complete(reply, reason) {
            self.shared.emit(Event::StreamEnded(self.slot.key, reason));
        }
    }

    /// Answers with the head of a stream alone, as `HEAD` requires, and with these further header lines.
    pub fn show_stream_head(&mut self, extra: &str) {
        if let Some(reading) = self.take_rendering() {
            let stream = self.put_stream_head(&reading, extra);
            self.go_on(reading, stream.keep_alive, CloseReason::Answered);
        }
    }

    /// Answers a request, and accepts no further one.
    pub fn refuse(&mut self, reply: &Reply, reason: CloseReason) {
        if let State::Reading(reading) | State::Rendering(reading) = &self.slot.state {
            self.put_reply(reply, false, reading.head_only);
            self.drain(State::Draining(reason));
        }
    }

    /// Answers a request with a stream: its head with these further header lines, and its first bytes.
    pub fn begin_stream(&mut self, extra: &str, first: &[u8]) {
        if let Some(reading) = self.take_rendering() {
            let mut stream = self.put_stream_head(&reading, extra);
            self.slot.outbox.push_piece(stream.is_chunked, first);
            // What came behind the request is discarded, as what comes later.
            stream.keep_alive &= !reading.has_input();
            self.subscribe(State::Streaming(stream));
        }
    }

    /// Makes a request a long poll, which is answered later.
    pub fn begin_poll(&mut self) {
        if let Some(reading) = self.take_rendering() {
            self.subscribe(State::Polling(reading));
        }
    }

    /// Sends a piece of a stream's body to this client alone, before any event that was not begun.
    pub fn send(&mut self, piece: &[u8]) {
        if let State::Streaming(stream) = &self.slot.state {
            self.slot.outbox.push_piece(stream.is_chunked, piece);
            self.shared.queue_write(self.slot);
        }
    }

    /// Ends a stream between two events: one that was begun is completed first. The next request follows as after any other
    /// reply; `origin` is where the connection comes from.
    pub fn end_stream(&mut self, reason: CloseReason, origin: Origin) {
        if let State::Streaming(stream) = &self.slot.state {
            self.slot.outbox.push_end(stream.is_chunked);
            let next = stream.keep_alive.then(|| Box::new(Reading::new(origin)));
            self.drain(State::Ending(reason, next));
        }
    }

    /// Requests [`Event::LifetimeOver`] for a stream or a long poll.
    pub fn set_lifetime(&mut self, at: Time) {
        if self.slot.is_subscribed() {
            self.slot.deadline = at;
            self.shared.arm(self.slot);
        }
    }

    /// Writes nothing to a stream until it is released, not even its head.
    pub fn hold(&mut self) {
        if self.slot.is_subscribed() {
            self.slot.write = WriteState::Held;
        }
    }

    /// Ends a hold.
    pub fn release(&mut self) {
        if self.slot.write == WriteState::Held {
            self.slot.write = WriteState::Idle;
            self.shared.queue_write(self.slot);
        }
    }

    /// Closes at once, even if something is unsent.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.shared.replace(self.slot, State::Closed), State::Closed) {
            self.slot.outbox = Outbox::default();
            self.shared.emit(Event::Closed(self.slot.key, reason));
            self.shared.actions.push_back(Action::Close(self.slot.key));
        }
    }

    /// Accepts no further request. Input that the kernel already has is still read, and refused where it is no complete
    /// request. Streams and long polls go on.
    pub(super) fn stop(&mut self) {
        match &self.slot.state {
            State::Reading(_) if self.slot.is_idle() => self.handle_ready(true, false, false),
            State::Reading(_) => self.stop_reading(),
            State::Lingering(_) => self.close(CloseReason::Drain),
            _ => {}
        }
    }

    /// While stopping, ends a connection that has no complete request: with the refusal, if a part of one has come.
    fn stop_reading(&mut self) {
        match (&self.slot.state, self.shared.refusal.clone()) {
            (State::Reading(_), Some(_)) if self.slot.is_idle() => self.close(CloseReason::Drain),
            (State::Reading(reading), Some(refusal))
                if self.slot.outbox.is_empty() || reading.has_pending() =>
            {
                self.refuse(&refusal, CloseReason::Drain);
            }
            (State::Reading(_), Some(_)) => self.drain(State::Draining(CloseReason::Drain)),
            _ => {}
        }
    }

    /// Takes the connection out of the read queue; how many bytes are wanted, if any.
    pub(super) fn poll_read(&mut self) -> Option<usize> {
        self.slot.read = ReadState::Readable;
        Some(self.slot.room()).filter(|&room| room > 0)
    }

    /// Takes the connection out of the write queue; whether there may be something to write.
    pub(super) fn poll_write(&mut self) -> bool {
        if self.slot.write != WriteState::Queued {
            return false;
        }
        self.slot.write = WriteState::Idle;
        let may_write = self.slot.may_have_stream_bytes() || !self.slot.outbox.is_empty();
        if !may_write {
            self.handle_nothing_to_write();
        }
        may_write
    }

    /// Takes the next request or body from the input. While a reply is unsent, the next request waits, so that a client
    /// that does not read cannot fill our memory.
    fn poll_request(&mut self) {
        if !self.slot.outbox.is_empty() {
            return;
        }
        let key = self.slot.key;
        let polled = self.shared.with_reading(self.slot, |it| it.poll(key));
        match polled {
            None => {}
            Some(Ok(Some(event))) => self.render(event),
            Some(Ok(None)) if self.slot.peer == Peer::Ended => self.close(CloseReason::Client),
            Some(Ok(None)) if self.shared.is_over_budget(self.slot.unauthenticated()) => {
                self.reject(RequestError::Overloaded);
            }
            Some(Ok(None)) => self.shared.queue_read(self.slot),
            Some(Err(error)) => self.reject(error),
        }
    }

    fn render(&mut self, event: Event) {
        if let Some(reading) = self.take_reading() {
            // The owner has deadlines of its own for what it waits for; ours is later.
            let deadline = match reading.is_whole() {
                true => self.shared.now + limits::REQUEST_DEADLINE,
                false => self.slot.deadline,
            };
            self.enter(State::Rendering(reading), deadline);
        }
        self.shared.emit(event);
    }

    /// Refuses a request that the owner does not decide about.
    fn reject(&mut self, error: RequestError) {
        self.refuse(&error.reply(), error.close_reason());
    }

    fn put_reply(&mut self, reply: &Reply, keep_alive: bool, head_only: bool) {
        let out = self.slot.outbox.buffer();
        reply::encode_head(out, reply, keep_alive, self.shared.unix_seconds);
        if !head_only {
            self.slot.outbox.attach(&reply.body);
        }
    }

    fn put_stream_head(&mut self, reading: &Reading, extra: &str) -> Streaming {
        let is_chunked = reading.http_11;
        let keep_alive = is_chunked && self.shared.keeps_alive(reading);
        let (out, unix_seconds) = (self.slot.outbox.buffer(), self.shared.unix_seconds);
        reply::encode_stream_head(out, is_chunked, keep_alive, extra, unix_seconds);
        Streaming {
            is_chunked,
            keep_alive,
            discarded: Discarded::default(),
        }
    }

    /// Answers a request or a long poll; whether the next request follows.
    fn complete(&mut self, reply: &Reply, reason: CloseReason) -> bool {
        let is_unanswered = matches!(self.slot.state, State::Rendering(_) | State::Polling(_));
        let reading = is_unanswered.then(|| self.take_reading()).flatten();
        reading.is_some_and(|reading| {
            let keep_alive = self.shared.keeps_alive(&reading);
            self.put_reply(reply, keep_alive, reading.head_only);
            self.go_on(reading, keep_alive, reason);
            keep_alive
        })
    }

    /// A reply is in the outbox: goes on to the next request, or to the end.
    fn go_on(&mut self, reading: Box<Reading>, keep_alive: bool, reason: CloseReason) {
        match keep_alive {
            true => {
                self.begin_next(reading);
                self.shared.queue_write(self.slot);
            }
            false => self.drain(State::Draining(reason)),
        }
    }

    /// All of a stream was sent: goes on to the next request, or to the end.
    fn finish_stream(&mut self) {
        let has_ended = self.slot.peer == Peer::Ended;
        let State::Ending(reason, next) = &mut self.slot.state else {
            return;
        };
        let reason = *reason;
        match next.take_if(|next| !has_ended || next.has_input()) {
            Some(next) => {
                self.shared.emit(Event::StreamEnded(self.slot.key, reason));
                self.begin_next(next);
                self.poll_request();
                if self.shared.refusal.is_some() {
                    self.stop();
                }
            }
            None => self.shut_down(reason),
        }
    }

    /// Waits for the request behind one that was answered.
    fn begin_next(&mut self, mut reading: Box<Reading>) {
        reading.finish();
        self.slot.progress_at = self.shared.now;
        self.begin(reading);
    }

    /// Makes a request a stream or a long poll.
    fn subscribe(&mut self, state: State) {
        self.slot.progress_at = self.shared.now;
        self.enter(state, NEVER);
        if self.slot.peer == Peer::Ended {
            self.shared.emit(Event::PeerEnded(self.slot.key));
        }
        // The owner may have something for it already.
        self.shared.queue_write(self.slot);
    }

    /// Sends what is left, and closes.
    fn drain(&mut self, state: State) {
        self.enter(state, self.shared.now + limits::DRAIN_DEADLINE);
        self.shared.queue_write(self.slot);
    }

    /// Everything was sent. A client that may still be sending gets some time to close, because when a socket with
    /// unread bytes is closed, the kernel sends a reset, which can destroy the reply on its way (RFC 9112 §9.6).
    fn shut_down(&mut self, reason: CloseReason) {
        if self.slot.peer == Peer::Ended {
            return self.close(reason);
        }
        let action = Action::ShutdownWrite(self.slot.key);
        self.shared.actions.push_back(action);
        let deadline = self.shared.now + limits::LINGER_DEADLINE;
        self.enter(State::Lingering(reason), deadline);
    }

    fn take_rendering(&mut self) -> Option<Box<Reading>> {
        let is_rendering = self.slot.is_rendering();
        is_rendering.then(|| self.take_reading()).flatten()
    }

    /// Takes the state of a connection that has a request; another state must be entered.
    fn take_reading(&mut self) -> Option<Box<Reading>> {
        match self.shared.replace(self.slot, State::Closed) {
            State::Reading(reading) | State::Rendering(reading) | State::Polling(reading) => {
                Some(reading)
            }
            other => {
                self.slot.state = other;
                None
            }
        }
    }

    fn enter(&mut self, state: State, deadline: Time) {
        self.shared.enter(self.slot, state, deadline);
    }

    /// Emits an event about a stream or a long poll, and arms the timer again after the keepalive: what is sent in
    /// response counts only when it has been written.
    fn remind(&mut self, event: Event) {
        self.shared.emit(event);
        let again_at = self.shared.now + self.shared.options.keepalive;
        self.shared
            .arm_at(self.slot, again_at.min(self.slot.deadline));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::super::{Connections, Key, Options, Origin};
    use super::*;
    use crate::random::Random;

    const KEEPALIVE: Duration = Duration::from_secs(15);
    const GET: &str = "GET /reply HTTP/1.1\r\nHost: a\r\n\r\n";
    const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    const POLL: &str = "GET /poll HTTP/1.1\r\nHost: a\r\n\r\n";

    /// The names of states.
    #[derive(Debug, PartialEq)]
    enum Phase {
        Reading,
        Rendering,
        Streaming,
        Polling,
        Ending,
        Draining,
        Lingering,
        Closed,
    }

    /// The other side of a socket.
    #[derive(Default)]
    struct Socket {
        unread: Vec<u8>,
        has_ended: bool,
        /// How much the kernel takes; `None` for everything.
        takes: Option<usize>,
        received: Vec<u8>,
        /// What was said of the connection and done with it.
        seen: Vec<String>,
    }

    /// Connections, their clients, and a server that goes by the path.
    struct World {
        http: Connections,
        now: Time,
        sockets: BTreeMap<u32, Socket>,
        writes_per_turn: usize,
    }

    impl World {
        fn new() -> World {
            let options = Options {
                keepalive: KEEPALIVE,
                idle: Duration::from_secs(40),
                reads_per_turn: 100,
            };
            let mut world = World {
                http: Connections::new(options, Time::ZERO),
                now: Time::ZERO,
                sockets: BTreeMap::new(),
                writes_per_turn: 100,
            };
            world.turn();
            world
        }

        fn accept(&mut self) -> Key {
            let key = self.http.accept(Origin::new(Ipv4Addr::LOCALHOST, false));
            self.sockets.insert(key.generation, Socket::default());
            key
        }

        /// A connection whose client has sent this.
        fn open(&mut self, input: &str) -> Key {
            let key = self.accept();
            self.send(key, input);
            key
        }

        fn socket(&mut self, key: Key) -> &mut Socket {
            self.sockets
                .get_mut(&key.generation)
                .expect("it was accepted")
        }

        fn send(&mut self, key: Key, input: &str) {
            self.socket(key).unread.extend_from_slice(input.as_bytes());
            self.http.at(key).handle_ready(true, false, false);
            self.settle();
        }

        fn end(&mut self, key: Key) {
            self.socket(key).has_ended = true;
            self.http.at(key).handle_ready(true, false, false);
            self.settle();
        }

        fn end_stream(&mut self, key: Key, reason: CloseReason) {
            let origin = Origin::new(Ipv4Addr::LOCALHOST, false);
            self.http.at(key).end_stream(reason, origin);
        }

        fn wait(&mut self, span: Duration) {
            self.now = self.now + span;
            self.settle();
        }

        fn settle(&mut self) {
            self.turn();
            let mut turns = 0;
            while self.http.has_work() {
                self.turn();
                turns += 1;
                assert!(turns < 1_000, "there is work that no turn gets done");
            }
        }

        fn turn(&mut self) {
            self.http.start_turn(self.now, 0);
            self.http.handle_time();
            while let Some((key, room)) = self.http.poll_read() {
                let socket = self.socket(key);
                let len = room.min(socket.unread.len());
                let bytes: Vec<u8> = socket.unread.drain(..len).collect();
                match (len, socket.has_ended) {
                    (0, true) => self.http.at(key).handle_end(),
                    (0, false) => self.http.at(key).handle_read_would_block(),
                    _ => self.http.at(key).handle_input(&bytes),
                }
            }
            self.decide();
            for _ in 0..self.writes_per_turn {
                let Some(key) = self.http.poll_write() else {
                    break;
                };
                self.write(key);
            }
            self.decide();
            while let Some(action) = self.http.poll_action() {
                let (Action::Close(key) | Action::ShutdownWrite(key)) = action;
                if let Action::ShutdownWrite(_) = action {
                    self.socket(key).seen.push("our end".to_owned());
                }
            }
            self.http.check_invariants();
        }

        fn write(&mut self, key: Key) {
            let bytes = self.http.outbox(key).to_vec();
            let socket = self.socket(key);
            let len = socket.takes.unwrap_or(usize::MAX).min(bytes.len());
            socket.received.extend_from_slice(&bytes[..len]);
            socket.takes = socket.takes.map(|takes| takes - len);
            let mut connection = self.http.at(key);
            match (bytes.len(), len) {
                (0, _) => connection.handle_nothing_to_write(),
                (_, 0) => connection.handle_write_would_block(),
                _ => connection.handle_outbox_written(len),
            }
        }

        fn decide(&mut self) {
            while let Some(event) = self.http.poll_event() {
                let (key, line) = match event {
                    Event::Request(key, request) => {
                        let line = format!("{:?} {}", request.method, request.target);
                        self.begin(key, request);
                        (key, line)
                    }
                    Event::Body(key, request, data) => {
                        let mut connection = self.http.at(key);
                        connection.complete_request(&Reply::json(200, data.clone()));
                        (key, format!("{} {}", request.target, data.len()))
                    }
                    Event::PeerEnded(key) => (key, "half-closed".to_owned()),
                    Event::Silent(key) => {
                        self.http.at(key).send(b":\n");
                        (key, "silent".to_owned())
                    }
                    Event::PollTimedOut(key) => (key, "timed out".to_owned()),
                    Event::LifetimeOver(key) => (key, "lived".to_owned()),
                    Event::StreamEnded(key, reason) => (key, format!("{}, goes on", reason.name())),
                    Event::Closed(key, reason) => (key, reason.name().to_owned()),
                };
                self.socket(key).seen.push(line);
            }
        }

        fn begin(&mut self, key: Key, request: Box<Request>) {
            let mut connection = self.http.at(key);
            match &*request.target {
                "/reply" => connection.complete_request(&Reply::json(200, b"{}".to_vec())),
                "/large" => connection.complete_request(&Reply::json(200, vec![b'x'; 50_000])),
                "/keep" => connection.read_body(request, 16, BodyUse::Keep),
                "/upload" => {
                    connection.read_body(request, 1 << 20, BodyUse::KeepUnauthenticated);
                }
                "/discard" => connection.read_body(request, 8, BodyUse::Discard),
                "/head" => connection.show_stream_head(""),
                "/shed" => connection
                    .complete_stream(&Reply::finite_stream(b":\n".to_vec()), CloseReason::Shed),
                "/refuse" => connection.refuse(&Reply::error(503, "full"), CloseReason::Shed),
                "/stream" => {
                    connection.begin_stream("", b":\n");
                }
                "/held" => {
                    connection.begin_stream("", b":\n");
                    connection.hold();
                }
                "/poll" => connection.begin_poll(),
                _ => {}
            }
        }

        /// The status of each reply, and what comes behind the last one's head.
        fn received(&mut self, key: Key) -> (Vec<u16>, String) {
            let text = String::from_utf8_lossy(&self.socket(key).received).into_owned();
            let replies = text.split("HTTP/1.1 ").skip(1);
            let statuses = replies.map(|reply| reply[..3].parse().expect("a status"));
            let last = text.rsplit("\r\n\r\n").next().unwrap_or_default();
            let body = match text.contains("Transfer-Encoding") {
                true => text.split_once("\r\n\r\n").map_or("", |(_, body)| body),
                false => last,
            };
            (statuses.collect(), body.to_owned())
        }

        fn seen(&mut self, key: Key) -> String {
            self.socket(key).seen.join(", ")
        }

        fn is_caught_up(&self, key: Key) -> bool {
            self.http.caught_up(key.index) == Some(key)
        }

        fn phase(&self, key: Key) -> Phase {
            match self.http.state(key) {
                State::Reading(_) => Phase::Reading,
                State::Rendering(_) => Phase::Rendering,
                State::Streaming(_) => Phase::Streaming,
                State::Polling(_) => Phase::Polling,
                State::Ending(..) => Phase::Ending,
                State::Draining(_) => Phase::Draining,
                State::Lingering(_) => Phase::Lingering,
                State::Closed => Phase::Closed,
            }
        }
    }

    #[test]
    fn input_cut_anywhere_gets_the_same_answers() {
        let get = GET.to_owned();
        let post = |path: &str, lines: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}");
        let long = post("/keep", "Content-Length: 17\r\n\r\n");
        let kept = post("/keep", "Content-Length: 3\r\n\r\nabc");
        let chunked = post(
            "/keep",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        );
        let broken = post("/keep", "Transfer-Encoding: chunked\r\n\r\nx");
        let discarded = post("/discard", "Content-Length: 3\r\n\r\nabc");
        let unread = post("/reply", "Content-Length: 3\r\n\r\nabc");
        let head = "HEAD /reply HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
        let stream_head = "HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
        let old = "GET /reply HTTP/1.0\r\n\r\n".to_owned();
        let kept_old = "GET /reply HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned();
        let no_host = "GET / HTTP/1.1\r\n\r\n".to_owned();
        let closing = "GET /reply HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
        #[rustfmt::skip]
        let table: Vec<(String, &[u16], &str, Phase)> = vec![
            (get.clone(), &[200], "Get /reply", Phase::Reading),
            (format!("\r\n{get}\r\n\n{get}"), &[200, 200], "Get /reply, Get /reply", Phase::Reading),
            (kept.clone(), &[200], "Post /keep, /keep 3", Phase::Reading),
            (format!("{chunked}{get}"), &[200, 200], "Post /keep, /keep 2, Get /reply", Phase::Reading),
            (format!("{discarded}{kept}"), &[200, 200],
             "Post /discard, /discard 0, Post /keep, /keep 3", Phase::Reading),
            (format!("{head}{stream_head}{get}"), &[200, 200, 200],
             "Head /reply, Head /head, Get /reply", Phase::Reading),
            (format!("{kept_old}{old}{get}"), &[200, 200], "Get /reply, Get /reply, our end", Phase::Lingering),
            (format!("{closing}{get}"), &[200], "Get /reply, our end", Phase::Lingering),
            (format!("{unread}{get}"), &[200], "Post /reply, our end", Phase::Lingering),
            (format!("{get}{long}"), &[200, 413], "Get /reply, Post /keep, our end", Phase::Lingering),
            (broken, &[400], "Post /keep, our end", Phase::Lingering),
            (no_host, &[400], "our end", Phase::Lingering),
            (format!("{STREAM}junk"), &[200], "Get /stream", Phase::Streaming),
            (format!("{get}{POLL}{get}"), &[200], "Get /reply, Get /poll", Phase::Polling),
        ];
        for (input, statuses, seen, phase) in table {
            let mut expected = None;
            for cut in 0..input.len() {
                let mut world = World::new();
                let key = world.open(&input[..cut]);
                world.send(key, &input[cut..]);
                assert_eq!(world.received(key).0, statuses, "{input:?} cut at {cut}");
                assert_eq!(world.seen(key), seen, "{input:?} cut at {cut}");
                assert_eq!(world.phase(key), phase, "{input:?} cut at {cut}");
                let received = world.socket(key).received.clone();
                assert_eq!(*expected.get_or_insert(received.clone()), received);
            }
            // Nor does it matter how little the kernel takes at a time.
            let mut world = World::new();
            let key = world.accept();
            world.socket(key).takes = Some(0);
            world.send(key, &input);
            for _ in 0..400 {
                world.socket(key).takes = Some(7);
                world.http.at(key).handle_ready(false, true, false);
                world.settle();
            }
            assert_eq!(world.seen(key), seen, "{input:?}");
            assert_eq!(Some(world.socket(key).received.clone()), expected);
        }
    }

    #[test]
    fn the_next_request_waits_for_the_reply_and_is_not_read_before() {
        let mut world = World::new();
        let key = world.accept();
        world.socket(key).takes = Some(1_000);
        world.send(
            key,
            "GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /reply HTTP/1.1\r\n",
        );
        assert_eq!(world.seen(key), "Get /large");
        world.send(key, "Host: a\r\n\r\n");
        assert!(!world.socket(key).unread.is_empty());
        world.socket(key).takes = None;
        world.http.at(key).handle_ready(false, true, false);
        world.settle();
        assert_eq!(world.seen(key), "Get /large, Get /reply");
        assert_eq!(world.received(key).0, [200, 200]);
    }

    #[test]
    fn a_client_that_waits_to_be_told_sends_its_body_then() {
        let head =
            "POST /keep HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let mut world = World::new();
        let key = world.open(head);
        assert_eq!(world.received(key).0, [100]);
        world.send(key, "abc");
        assert_eq!(world.received(key).0, [100, 200]);
        // Who sends it at once need not be told.
        let key = world.open(&format!("{head}abc"));
        assert_eq!(world.received(key).0, [200]);
    }

    #[test]
    fn only_the_reply_to_head_is_without_a_body() {
        let head = "HEAD /reply HTTP/1.1\r\nHost: a\r\n\r\n";
        let refused = "HEAD /refuse HTTP/1.1\r\nHost: a\r\n\r\n";
        let table = [
            (head.to_owned(), ""),
            (refused.to_owned(), ""),
            (format!("{head}{GET}"), "{}"),
            (format!("{head}GET\r\n\r\n"), "}\n"),
        ];
        for (input, end) in table {
            let mut world = World::new();
            let key = world.open(&input);
            let (_, body) = world.received(key);
            assert!(
                body.ends_with(end) && body.is_empty() == end.is_empty(),
                "{input:?}: {body:?}"
            );
        }
    }

    #[test]
    fn the_ends_of_clients() {
        let later = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";
        let closing = "GET /reply HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        // What was sent before the end, and what is seen when the client has ended its side and when it hung up.
        let table = [
            ("", "client", "reset"),
            ("GET /rep", "client", "reset"),
            (GET, "Get /reply, client", "Get /reply, reset"),
            (later, "Get /later", "Get /later, reset"),
            (STREAM, "Get /stream, half-closed", "Get /stream, reset"),
            (POLL, "Get /poll, half-closed", "Get /poll, reset"),
            (
                closing,
                "Get /reply, our end, answered",
                "Get /reply, our end, answered",
            ),
        ];
        for (input, after_end, after_hangup) in table {
            let mut world = World::new();
            let key = world.open(input);
            world.end(key);
            assert_eq!(world.seen(key), after_end, "{input:?}");
            // It is said once, and a socket that is then found dead was closed by the client.
            world.http.at(key).handle_ready(true, false, true);
            world.settle();
            let expected = match world.http.is_empty() && after_end.contains("client") {
                true => after_end.to_owned(),
                false if after_end.ends_with("answered") => after_end.to_owned(),
                false => format!("{after_end}, client"),
            };
            assert_eq!(world.seen(key), expected, "{input:?}");

            let key = world.open(input);
            world.http.at(key).handle_ready(false, false, true);
            world.settle();
            assert_eq!(world.seen(key), after_hangup, "{input:?}");
            assert!(world.http.is_empty());
        }
        // Requests that were sent before the end are answered, and nobody lingers for an end that has come.
        let mut world = World::new();
        let key = world.accept();
        world.socket(key).has_ended = true;
        world.send(key, &format!("{GET}{closing}"));
        assert_eq!(world.seen(key), "Get /reply, Get /reply, answered");
        // A connection that we were closing ends for our reason, however its client ends it.
        let key = world.open(closing);
        let reset = io::ErrorKind::ConnectionReset;
        world.http.at(key).handle_failure(&reset.into());
        world.settle();
        assert_eq!(world.seen(key), "Get /reply, our end, answered");
        let kinds = [
            (io::ErrorKind::TimedOut, "timeout"),
            (io::ErrorKind::BrokenPipe, "reset"),
            (io::ErrorKind::OutOfMemory, "failure"),
        ];
        for (kind, expected) in kinds {
            let key = world.accept();
            world.http.at(key).handle_failure(&kind.into());
            world.settle();
            assert_eq!(world.seen(key), expected);
        }
    }

    #[test]
    fn deadlines() {
        let unread = Some(100);
        let post = "POST /keep HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let later = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";
        let large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
        let closing = "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let refused = "GET /refuse HTTP/1.1\r\nHost: a\r\n\r\n";
        // What was sent, how much the kernel takes, after how many seconds what is seen, and the last status.
        #[rustfmt::skip]
        let table: &[(&str, Option<usize>, u64, &str, u16)] = &[
            ("", None, 10, "idle", 0),
            ("\r\n\r\n", None, 10, "idle", 0),
            ("GET /", None, 10, "our end", 408),
            (post, None, 10, "Post /keep, our end", 408),
            (later, None, 10, "Get /later, our end", 503),
            (GET, None, 40, "Get /reply, idle", 200),
            (large, unread, 10, "Get /large, slow", 200),
            (closing, unread, 5, "Get /large, answered", 200),
            (refused, None, 2, "Get /refuse, our end, shed", 503),
            (STREAM, None, 15, "Get /stream, silent", 200),
            (STREAM, unread, 60, "Get /stream, slow", 200),
            (POLL, None, 15, "Get /poll, timed out", 0),
        ];
        for &(input, takes, seconds, expected, status) in table {
            let mut world = World::new();
            let key = world.accept();
            world.socket(key).takes = takes;
            world.send(key, input);
            let before = world.seen(key);
            world.wait(Duration::from_secs(seconds) - limits::TIMER_SLACK * 2);
            assert_eq!(world.seen(key), before, "{input:?} too early");
            // Only when it says so need it be asked.
            while let Some(at) = world
                .http
                .deadline()
                .filter(|&at| at < world.now + KEEPALIVE * 5)
            {
                world.now = world.now.max(at);
                world.turn();
                if world.seen(key) != before {
                    break;
                }
            }
            world.settle();
            assert_eq!(world.seen(key), expected, "{input:?}");
            assert!(
                world.now <= Time::ZERO + Duration::from_secs(seconds),
                "{input:?} too late"
            );
            assert_eq!(
                world.received(key).0.last().copied().unwrap_or(0),
                status,
                "{input:?}"
            );
        }
    }

    #[test]
    fn a_request_has_its_time_from_its_first_byte() {
        let mut world = World::new();
        let key = world.open(GET);
        world.wait(Duration::from_secs(9));
        world.send(key, "GET /re");
        world.wait(Duration::from_secs(9));
        world.send(key, "ply HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(world.seen(key), "Get /reply, Get /reply");
        world.send(key, "GET /re");
        for _ in 0..6 {
            world.wait(Duration::from_secs(2));
            world.send(key, "p");
        }
        assert_eq!(world.received(key).0, [200, 200, 408]);
    }

    #[test]
    fn a_body_has_time_while_it_comes() {
        const MIB: usize = 1 << 20;
        // How many bytes come at a time and every how many seconds, and after how many seconds at most which status.
        let table = [
            // 0.5 Mbit/s.
            (62_500, 1, 17, 200),
            (16 * 1024, 1, 64, 200),
            (80_000, 4, 56, 200),
            (10 * 1024, 1, 28, 408),
            (1, 9, 10, 408),
            (MIB - 1, 100, 75, 408),
        ];
        for (len, seconds, most, status) in table {
            let mut world = World::new();
            let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
            let key = world.open(&head);
            let mut left = MIB;
            while world.received(key).0.is_empty() {
                for _ in 0..seconds {
                    world.wait(Duration::from_secs(1));
                    if !world.received(key).0.is_empty() {
                        break;
                    }
                }
                let piece = len.min(left);
                left -= piece;
                world.send(key, &"a".repeat(piece));
            }
            assert_eq!(world.received(key).0, [status], "{len} every {seconds} s");
            let ended = world.now <= Time::ZERO + Duration::from_secs(most);
            assert!(ended, "{len} every {seconds} s: {:?}", world.now);
        }
    }

    #[test]
    fn silence_and_lifetimes_of_streams() {
        let mut world = World::new();
        let key = world.open(STREAM);
        let start = world.now;
        world
            .http
            .at(key)
            .set_lifetime(start + Duration::from_secs(40));
        for _ in 0..43 {
            world.wait(Duration::from_secs(1));
        }
        assert_eq!(world.seen(key), "Get /stream, silent, silent, lived");
        // It is said once; the stream ends when its owner says so, with what is a boundary for the client.
        world.end_stream(key, CloseReason::Lifetime);
        world.settle();
        assert_eq!(
            world.seen(key),
            "Get /stream, silent, silent, lived, lifetime, goes on"
        );
        assert_eq!(
            world.received(key).1,
            "2\r\n:\n\r\n".repeat(3) + "0\r\n\r\n"
        );
        // HTTP/1.0 gets neither chunks nor their end.
        let key = world.open("GET /stream HTTP/1.0\r\n\r\n");
        world.end_stream(key, CloseReason::Cleanup);
        world.settle();
        assert_eq!(world.received(key).1, ":\n");
        world.end(key);
        assert_eq!(world.seen(key), "Get /stream, our end, cleanup");
    }

    #[test]
    fn what_the_owner_has_begun_is_finished_before_the_end() {
        let mut world = World::new();
        let table = [
            ("1.1", "0\r\n\r\n", "cleanup, goes on"),
            ("1.0", "", "our end"),
        ];
        for (version, rest, end) in table {
            let key = world.open(&format!("GET /stream HTTP/{version}\r\nHost: a\r\n\r\n"));
            assert!(world.is_caught_up(key));
            // The owner writes, and the kernel takes a part.
            world.http.at(key).handle_stream_written(true);
            assert!(!world.is_caught_up(key));
            world.end_stream(key, CloseReason::Cleanup);
            assert_eq!(world.http.poll_write(), Some(key));
            world.http.at(key).handle_write_would_block();
            assert_eq!(world.http.poll_write(), None);
            world.http.at(key).handle_ready(false, true, false);
            assert_eq!(world.http.poll_write(), Some(key));
            assert_eq!(world.http.outbox(key), rest.as_bytes());
            // The rest of what was begun; then the outbox, and the end.
            world.http.at(key).handle_stream_written(false);
            assert_eq!(world.phase(key), Phase::Ending);
            world.settle();
            assert_eq!(world.seen(key), format!("Get /stream, {end}"));
        }
    }

    #[test]
    fn nothing_is_written_while_held_by_any_way() {
        let mut world = World::new();
        // The first reply uses up the turn's writes, so that the connection is still queued when it is held.
        world.writes_per_turn = 1;
        let other = world.accept();
        let key = world.open(&format!("{GET}GET /held HTTP/1.1\r\nHost: a\r\n\r\n"));
        world.send(other, GET);
        assert_eq!(world.seen(key), "Get /reply, Get /held");
        world.http.at(key).send(b"data:1\n\n");
        world.http.at(key).handle_ready(false, true, false);
        world.settle();
        assert_eq!(world.received(key).0, [200]);
        assert!(!world.is_caught_up(key));
        world.http.at(key).release();
        world.settle();
        assert_eq!(world.received(key).0, [200, 200]);
        assert!(world.socket(key).received.ends_with(b"8\r\ndata:1\n\n\r\n"));
        assert!(world.is_caught_up(key));
    }

    #[test]
    fn a_held_connection_that_was_queued_is_not_written_to() {
        let mut world = World::new();
        let key = world.open("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
        world.http.at(key).begin_stream("", b":\n");
        world.http.at(key).hold();
        world.settle();
        assert!(world.socket(key).received.is_empty());
        world.end_stream(key, CloseReason::Drain);
        world.settle();
        assert!(world.socket(key).received.is_empty());
        world.http.at(key).release();
        world.settle();
        assert_eq!(world.received(key).1, "2\r\n:\n\r\n0\r\n\r\n");
        assert_eq!(world.seen(key), "Get /later, drain, goes on");
    }

    #[test]
    fn the_next_request_follows_a_long_poll_unless_it_is_unknown_where_it_begins() {
        let reply = Reply::json(200, b"1".to_vec());
        let old = "GET /poll HTTP/1.0\r\n\r\n".to_owned();
        let body = "GET /poll HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n".to_owned();
        // What is sent together with the poll, what is sent behind it, and how many replies come.
        let table = [
            (POLL.to_owned(), GET, Phase::Reading, 2),
            (POLL.to_owned(), "G", Phase::Reading, 1),
            (format!("{POLL}{GET}"), GET, Phase::Reading, 3),
            (body, GET, Phase::Lingering, 1),
            (old, GET, Phase::Lingering, 1),
        ];
        for (input, behind, phase, replies) in table {
            let mut world = World::new();
            let key = world.open(&input);
            world.send(key, behind);
            assert_eq!(world.phase(key), Phase::Polling);
            assert!(world.received(key).0.is_empty());
            world.http.at(key).complete_request(&reply);
            world.settle();
            assert_eq!(world.received(key).0, vec![200; replies], "{input:?}");
            assert_eq!(world.phase(key), phase, "{input:?} and {behind:?}");
        }
    }

    #[test]
    fn the_next_request_follows_a_stream_unless_it_is_unknown_where_it_begins() {
        let old = "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let closing = "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let body = "GET /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        let shed = "GET /shed HTTP/1.1\r\nHost: a\r\n\r\n";
        let shed_old = "GET /shed HTTP/1.0\r\n\r\n";
        // What is sent, what behind it while it is answered, what the head says of the connection, and what is seen
        // at its end and of a request behind that.
        let table = [
            (STREAM, "", "keep-alive", "lifetime, goes on, Get /reply"),
            (STREAM, GET, "keep-alive", "our end"),
            (STREAM, "\r\n", "keep-alive", "our end"),
            (closing, "", "close", "our end"),
            (old, "", "close", "our end"),
            (body, "", "close", "our end"),
            (shed, "", "keep-alive", "shed, goes on, Get /reply"),
            (shed_old, "", "close", "our end"),
        ];
        for (input, behind, connection, end) in table {
            for is_together in [false, true] {
                let mut world = World::new();
                let key = world.accept();
                match is_together {
                    true => world.send(key, &format!("{input}{behind}")),
                    false => world.send(key, input),
                }
                if !is_together && !behind.is_empty() {
                    world.send(key, behind);
                }
                let head = String::from_utf8_lossy(&world.socket(key).received).into_owned();
                let field = format!("\r\nConnection: {connection}\r\n");
                assert!(head.contains(&field), "{input:?}: {head:?}");
                world.end_stream(key, CloseReason::Lifetime);
                world.settle();
                world.send(key, GET);
                let seen = world.seen(key);
                let (_, seen) = seen.split_once(", ").expect("a request and more");
                assert_eq!(seen, end, "{input:?} and {behind:?}");
            }
        }
    }

    #[test]
    fn what_comes_while_a_stream_ends_is_the_next_request() {
        // How much of the end fits at first; a request that has come by then; and whether the client ends its side.
        for (behind, ends, expected) in [
            (GET, false, "cleanup, goes on, Get /reply"),
            (GET, true, "cleanup, goes on, Get /reply, client"),
            ("", true, "cleanup"),
            ("GET /", false, "cleanup, goes on"),
        ] {
            let mut world = World::new();
            let key = world.open(STREAM);
            world.socket(key).takes = Some(2);
            world.end_stream(key, CloseReason::Cleanup);
            world.settle();
            assert_eq!(world.phase(key), Phase::Ending);
            world.send(key, behind);
            if ends {
                world.end(key);
            }
            world.socket(key).takes = None;
            world.http.at(key).handle_ready(false, true, false);
            world.settle();
            assert_eq!(world.seen(key), format!("Get /stream, {expected}"));
        }
    }

    #[test]
    fn a_stream_whose_client_goes_on_sending_is_closed() {
        let mut world = World::new();
        let key = world.open(STREAM);
        let max = limits::SUBSCRIBER_BYTES_MAX as usize;
        world.send(key, &"x".repeat(max));
        assert_eq!(world.phase(key), Phase::Streaming);
        world.send(key, "x");
        assert!(world.seen(key).ends_with("protocol"));
        assert!(world.http.is_empty());
    }

    #[test]
    fn a_poll_whose_client_goes_on_sending_is_not_read() {
        let mut world = World::new();
        let key = world.open(POLL);
        world.send(key, &"x".repeat(limits::HEAD_BYTES_MAX + 1));
        let unread = limits::HEAD_BYTES_MAX + 1 - limits::UNAUTHENTICATED_BYTES_FREE;
        assert_eq!(world.socket(key).unread.len(), unread);
        world
            .http
            .at(key)
            .complete_request(&Reply::json(200, b"1".to_vec()));
        world.settle();
        assert_eq!(world.received(key).0, [200, 400]);
    }

    #[test]
    fn who_ended_before_the_answer_is_found_out_when_it_begins() {
        for answer in ["stream", "poll"] {
            let mut world = World::new();
            let key = world.open("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
            world.end(key);
            match answer {
                "stream" => world.http.at(key).begin_stream("", b":\n"),
                _ => world.http.at(key).begin_poll(),
            }
            world.settle();
            assert!(world.seen(key).contains("half-closed"), "{answer}");
        }
    }

    #[test]
    fn bodies_of_clients_that_are_not_authenticated_are_bounded_in_all() {
        let head = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
        let most = "x".repeat(1_048_575);
        let mut world = World::new();
        let senders: Vec<Key> = (0..8)
            .map(|_| world.open(&format!("{head}{most}")))
            .collect();
        let small = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
        let key = world.open(small);
        assert_eq!(world.received(key).0, [200]);
        let key = world.open(&format!("{head}{most}"));
        assert_eq!(world.received(key).0, [503]);
        assert!(String::from_utf8_lossy(&world.socket(key).received).contains("Retry-After: 5"));
        // One that ends, however it ends, makes room for another.
        world.send(senders[0], "x");
        assert_eq!(world.received(senders[0]).0, [200]);
        world.http.at(senders[1]).close(CloseReason::Cleanup);
        world.settle();
        let key = world.open(&format!("{head}{most}x"));
        assert_eq!(world.received(key).0, [200]);
    }

    #[test]
    fn incomplete_heads_are_bounded_in_all() {
        let mut world = World::new();
        let part = format!(
            "GET /reply HTTP/1.1\r\nHost: a\r\nA: {}",
            "x".repeat(14 * 1024)
        );
        let counted = part.len() - limits::UNAUTHENTICATED_BYTES_FREE;
        let most = limits::UNAUTHENTICATED_BYTES_MAX / counted;
        let senders: Vec<Key> = (0..most).map(|_| world.open(&part)).collect();
        assert!(senders.iter().all(|&key| world.received(key).0.is_empty()));
        let key = world.open(&part);
        assert_eq!(world.received(key).0, [503]);
        // Those that are complete at once, or short, are served.
        let key = world.open(&format!("{part}\r\n\r\n"));
        assert_eq!(world.received(key).0, [200]);
        let key = world.open("GET /reply HTTP/1.1\r\nHost:");
        world.send(key, " a\r\n\r\n");
        assert_eq!(world.received(key).0, [200]);
        // One that is completed makes room for another.
        world.send(senders[0], "\r\n\r\n");
        let key = world.open(&part);
        assert!(world.received(key).0.is_empty());
    }

    #[test]
    fn a_server_that_stops_answers_what_it_has_and_takes_nothing_more() {
        let mut world = World::new();
        let [idle, partial, polling, streaming, waiting] = [
            "",
            "GET /",
            POLL,
            STREAM,
            "GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        .map(|input| world.open(input));
        let lingering = world.open("GET / HTTP/1.1\r\n\r\n");
        let unread = world.accept();
        world.socket(unread).takes = Some(100);
        world.send(unread, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        let expecting = world.accept();
        world.socket(expecting).takes = Some(0);
        let upload = "POST /keep HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
        world.send(expecting, &format!("{upload}Content-Length: 3\r\n\r\n"));
        // This one has begun a request, and the kernel has not said so yet.
        let late = world.open("");
        world.socket(late).unread.extend_from_slice(b"GET /");
        world.http.stop(&Reply::error(503, "stopping"));
        world.settle();
        world.socket(expecting).takes = None;
        world.http.at(expecting).handle_ready(false, true, false);
        world.settle();
        assert_eq!(world.seen(idle), "drain");
        assert_eq!(world.seen(lingering), "our end, drain");
        // The rest of what is refused may be on its way, so that both linger.
        for key in [partial, late] {
            assert_eq!(world.seen(key), "our end");
            assert_eq!(world.received(key).0, [503]);
        }
        assert_eq!(world.received(expecting).0, [100, 503]);
        let phases = [polling, streaming, waiting, unread].map(|key| world.phase(key));
        assert_eq!(
            phases,
            [
                Phase::Polling,
                Phase::Streaming,
                Phase::Rendering,
                Phase::Draining
            ]
        );
        let reply = Reply::json(200, b"{}".to_vec());
        world.http.at(waiting).complete_request(&reply);
        world.http.at(polling).complete_request(&reply);
        world.socket(unread).takes = None;
        world.http.at(unread).handle_ready(false, true, false);
        world.settle();
        for key in [polling, waiting, unread] {
            assert_eq!(world.received(key).0, [200]);
            let text = String::from_utf8_lossy(&world.socket(key).received).into_owned();
            assert!(text.contains("Connection: close") || key == unread);
            assert_eq!(world.phase(key), Phase::Lingering);
            world.end(key);
        }
        for key in [partial, late, expecting] {
            world.end(key);
        }
        assert_eq!(world.http.len(), 1);
        assert_eq!(world.phase(streaming), Phase::Streaming);
    }

    #[test]
    fn what_is_discarded_is_read_in_small_pieces() {
        let mut world = World::new();
        for (input, phase) in [
            (STREAM, Phase::Streaming),
            ("GET /\r\n\r\n", Phase::Lingering),
        ] {
            let key = world.open(input);
            assert_eq!(world.phase(key), phase);
            world.http.at(key).handle_ready(true, false, false);
            world.http.start_turn(world.now, 0);
            assert_eq!(world.http.poll_read(), Some((key, 8 * 1024)));
        }
    }

    #[test]
    fn a_late_word_finds_nobody() {
        let mut world = World::new();
        let key = world.open(STREAM);
        world.http.at(key).close(CloseReason::Cleanup);
        world.settle();
        let next = world.open(STREAM);
        assert_eq!(next.index, key.index);
        let received = world.socket(next).received.clone();
        let mut late = world.http.at(key);
        late.handle_ready(true, true, true);
        late.handle_input(b"GET");
        late.handle_end();
        late.send(b"data:\n\n");
        late.hold();
        late.release();
        late.complete_request(&Reply::json(200, Vec::new()));
        late.refuse(&Reply::json(400, Vec::new()), CloseReason::Shed);
        late.close(CloseReason::Slow);
        world.settle();
        assert_eq!(world.seen(key), "Get /stream, cleanup");
        assert_eq!(world.socket(next).received, received);
        assert!(world.is_caught_up(next) && !world.is_caught_up(key));
    }

    #[test]
    fn whatever_happens_in_whichever_order_nothing_is_left_behind() {
        let pieces = [
            GET,
            STREAM,
            POLL,
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n",
            "POST /discard HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            "GET /held HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /large HTTP/1.0\r\n\r\n",
            "GET /refuse",
            "\r\n",
            "GET /shed HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut world = World::new();
            let mut keys: Vec<Key> = (0..5).map(|_| world.accept()).collect();
            let mut accepted = keys.clone();
            let body = "x".repeat(8_990);
            for _ in 0..100 {
                let place = random.below(5) as usize;
                let key = keys[place];
                world.writes_per_turn = 1 + random.below(4) as usize;
                let reply = Reply::json(200, b"{}".to_vec());
                match random.below(16) {
                    0..4 => world.send(key, pieces[random.below(11) as usize]),
                    4 => world.send(key, &body),
                    5 => world.end(key),
                    6 => world.http.at(key).handle_ready(true, true, true),
                    7 => world.socket(key).takes = Some(random.below(200) as usize),
                    8 => world.socket(key).takes = None,
                    9 => world.http.at(key).handle_ready(true, true, false),
                    10 => world.wait(Duration::from_millis(random.below(20_000))),
                    11 => world.http.at(key).complete_request(&reply),
                    12 => world.http.at(key).release(),
                    13 => world.end_stream(key, CloseReason::Lifetime),
                    14 => world.http.at(key).close(CloseReason::Cleanup),
                    _ => {
                        keys[place] = world.accept();
                        accepted.push(keys[place]);
                    }
                }
                world.settle();
            }
            world.http.stop(&Reply::error(503, "stopping"));
            for key in accepted {
                world.http.at(key).close(CloseReason::Drain);
            }
            world.settle();
            assert!(world.http.is_empty(), "seed {seed}");
            for socket in world.sockets.values() {
                let reasons = CloseReason::ALL.map(CloseReason::name);
                let seen = socket.seen.iter();
                let closes = seen.filter(|line| reasons.contains(&line.as_str())).count();
                assert_eq!(closes, 1, "seed {seed}: {:?}", socket.seen);
            }
        }
    }
}
