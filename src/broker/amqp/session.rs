//! The session with an AMQP broker: logging in, subscriptions as they are wanted, publishing, and noticing that the
//! connection is dead. It makes no system calls: its intents are polled (`dialer`, `unsent`), and it is told what
//! happened.

use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::channel::AMQPMethod as Channel;
use amq_protocol::protocol::connection::AMQPMethod as Connection;
use amq_protocol::protocol::queue::AMQPMethod as Queue;

use super::bindings::Bindings;
use super::codec::{self, Closing, Decoder, Frame};
use super::content::{Content, Progress};
use super::handshake::{self, Agreed, CONNECTION, Handshake, INWARD, OUTWARD};
use super::publisher::{Answer, Publication, Publisher};
use super::{Endpoint, methods};
use crate::broker::link::dialer::Dialer;
use crate::broker::link::{Conversation, Failure, Target};
use crate::broker::{Message, Unanswered, shown, shown_without};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

/// The reply code for something that does not exist.
const NOT_FOUND: u16 = 404;
/// The reply code for a missing permission.
const ACCESS_REFUSED: u16 = 403;
/// `queue.bind`.
const BIND: (u16, u16) = (50, 20);

/// The session with a broker. It lives as long as the process, over one connection after another.
pub struct Session {
    endpoint: Endpoint,
    /// The endpoint as it is shown.
    place: String,
    client_name: String,
    dialer: Dialer,
    /// While live: when we send a heartbeat, and when the connection is lost unless something is received.
    beat_at: Time,
    lost_at: Time,
    handshake: Handshake,
    decoder: Decoder,
    outgoing: Vec<u8>,
    bindings: Bindings,
    publisher: Publisher,
    /// The message that is being received.
    content: Content,
}

impl Session {
    /// A session that connects at once.
    pub fn new(endpoint: Endpoint, client_name: &str, seed: u64) -> Session {
        Session {
            place: endpoint.to_string(),
            bindings: Bindings::new(endpoint.exchange_type),
            endpoint,
            client_name: client_name.to_owned(),
            dialer: Dialer::new(seed),
            beat_at: Time::ZERO,
            lost_at: Time::ZERO,
            handshake: Handshake::default(),
            decoder: Decoder::default(),
            outgoing: Vec::new(),
            publisher: Publisher::default(),
            content: Content::None,
        }
    }

    /// Subscribes to a channel, or to all channels that a pattern matches, over every connection until
    /// [`Session::unsubscribe`]. For a pattern the broker may send messages of any channel; the caller matches them.
    pub fn subscribe(&mut self, channel: &[u8], is_pattern: bool) {
        if is_pattern {
            self.subscribe_pattern(channel);
        } else if let Some(name) = channel_name(channel) {
            self.bindings.subscribe(name);
        } else {
            let line = format!("amqp: cannot subscribe to a channel: {NAME_RULE}");
            self.dialer.log(Level::Debug, line);
        }
        self.send_changes();
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, channel: &[u8]) {
        self.bindings.unsubscribe(channel);
        self.send_changes();
    }

    /// Publishes a message, once all bindings that were wanted before are in place; its answer comes from
    /// [`Session::poll_answer`].
    ///
    /// # Errors
    /// Without a connection, if too much waits to be sent, or if AMQP does not allow the name: the message is dropped.
    pub fn publish(&mut self, id: u64, channel: &[u8], payload: &[u8]) -> Result<(), Unanswered> {
        let bytes = codec::content_bytes_max(payload.len(), self.decoder.frame_max())
            + 2 * limits::AMQP_NAME_BYTES_MAX;
        let has_room = self.unsent_bytes() + bytes <= limits::COMMAND_BYTES_MAX
            && self.publisher.len() < limits::AMQP_UNCONFIRMED_MAX;
        if !self.is_live() || !has_room {
            return Err(Unanswered::Lost);
        }
        let Some(name) = channel_name(channel) else {
            return Err(Unanswered::Refused(NAME_RULE.to_owned()));
        };
        let publication = Publication {
            id,
            channel: name.to_owned(),
            payload: payload.to_vec(),
        };
        let change = self.bindings.last_change();
        self.publisher.add(publication, change);
        self.send_publications();
        Ok(())
    }

    /// The next answer to a published message. The loss of the connection answers all of them.
    pub fn poll_answer(&mut self) -> Option<(u64, Answer)> {
        self.publisher.poll_answer()
    }

    /// The broker, without its password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The number of binds and unbinds that the broker has not answered.
    pub fn unsettled(&self) -> usize {
        self.bindings.unsettled()
    }

    /// Whether messages of this size in total would be accepted now.
    pub fn has_room_for(&self, len: usize) -> bool {
        let bytes = len + limits::AMQP_BINDS_BYTES;
        self.is_live() && self.unsent_bytes() + bytes <= limits::COMMAND_BYTES_MAX
    }

    fn subscribe_pattern(&mut self, pattern: &[u8]) {
        if !self.bindings.subscribe_pattern(pattern) {
            let kind = self.endpoint.exchange_type;
            let pattern = shown(&String::from_utf8_lossy(pattern));
            let line = format!(
                "amqp: an exchange of type {kind} cannot serve patterns such as {pattern:?}: use type topic or fanout"
            );
            self.dialer.log_once("pattern", line);
        }
    }

    fn send(&mut self, channel: u16, method: AMQPClass) {
        codec::encode_method(&mut self.outgoing, channel, method);
    }

    /// Requests binds and unbinds, as long as little waits to be sent.
    fn send_changes(&mut self) {
        while self.outgoing.len() < limits::AMQP_BINDS_BYTES
            && let Some((queue, change)) = self.bindings.next_change()
        {
            let method = methods::change(&self.endpoint, queue, change);
            codec::encode_method(&mut self.outgoing, INWARD, method);
        }
        self.send_publications();
    }

    /// Sends the messages that need not wait any longer.
    fn send_publications(&mut self) {
        let settled = self.bindings.settled_change();
        while let Some(publication) = self.publisher.poll_publication(settled) {
            let method = methods::publish(&self.endpoint, &publication.channel);
            self.send(OUTWARD, method);
            let frame_max = self.decoder.frame_max();
            codec::encode_content(&mut self.outgoing, OUTWARD, &publication.payload, frame_max);
        }
    }

    fn unsent_bytes(&self) -> usize {
        self.outgoing.len() + self.publisher.waiting_bytes()
    }

    /// Handles a frame, and returns the message that it completes, if any.
    fn handle_frame(&mut self, frame: Frame, now: Time) -> Result<Option<Message>, Failure> {
        match frame {
            Frame::Heartbeat => {}
            Frame::Body(INWARD, part) => {
                let progress = self.content.handle_body(part)?;
                return Ok(self.handle_progress(progress));
            }
            Frame::Header(INWARD, len) => {
                let progress = self.content.handle_header(len)?;
                return Ok(self.handle_progress(progress));
            }
            Frame::Deliver(INWARD, key) => {
                let key = self.bindings.may_want(&key).then_some(key);
                self.content.announce(key)?;
            }
            Frame::Deliver(channel, _) | Frame::Header(channel, _) | Frame::Body(channel, _) => {
                let what = format!("a message over channel {channel}");
                return Err(Failure::Unexpected(what));
            }
            Frame::Close(channel, closing) => self.handle_close(channel, closing)?,
            Frame::Start {
                version,
                mechanisms,
            } => {
                self.handshake.handle_start(version, &mechanisms)?;
                let start_ok = methods::start_ok(&self.endpoint, &self.client_name);
                self.send(CONNECTION, start_ok);
            }
            Frame::Method(channel, method) => self.handle_method(channel, method, now)?,
        }
        Ok(None)
    }

    fn handle_progress(&mut self, progress: Progress) -> Option<Message> {
        match progress {
            Progress::Nothing => None,
            Progress::Whole(message) => Some(message),
            Progress::TooLarge(message, len) => {
                let most = limits::AMQP_BODY_BYTES_MAX;
                let line = format!(
                    "amqp: skipping messages of more than {most} bytes, such as one of {len} bytes"
                );
                self.dialer.log_once("size", line);
                Some(message)
            }
        }
    }

    fn handle_method(&mut self, channel: u16, method: AMQPClass, now: Time) -> Result<(), Failure> {
        match (channel, method) {
            (CONNECTION, AMQPClass::Connection(Connection::Blocked(blocked))) => {
                let reason = self.without_password(blocked.reason.as_str());
                let line = format!("amqp: {} blocks publishers: {reason}", self.place);
                self.dialer.log(Level::Warn, line);
                self.publisher.handle_blocked(Some(reason));
            }
            (CONNECTION, AMQPClass::Connection(Connection::Unblocked(_))) => {
                if self.publisher.handle_blocked(None) {
                    let line = format!("amqp: {} no longer blocks publishers", self.place);
                    self.dialer.log(Level::Info, line);
                }
            }
            (INWARD | OUTWARD, AMQPClass::Channel(Channel::Flow(flow))) => {
                self.send(channel, methods::flow_ok(flow.active));
            }
            (INWARD, AMQPClass::Queue(Queue::BindOk(_) | Queue::UnbindOk(_)))
                if self.bindings.handle_answer() =>
            {
                self.send_changes();
            }
            (INWARD, AMQPClass::Basic(Basic::Cancel(_))) => {
                let reason = "the consumer is cancelled, as when its queue is deleted";
                return Err(Failure::Closed(reason.to_owned()));
            }
            (OUTWARD, AMQPClass::Basic(Basic::Ack(ack))) => {
                self.publisher
                    .handle_confirm(ack.delivery_tag, ack.multiple, &Ok(()));
            }
            (OUTWARD, AMQPClass::Basic(Basic::Nack(nack))) => {
                let text = "the broker could not accept the message".to_owned();
                let refused = Err(Unanswered::Refused(text));
                self.publisher
                    .handle_confirm(nack.delivery_tag, nack.multiple, &refused);
            }
            (channel, method) => {
                let (endpoint, out) = (&self.endpoint, &mut self.outgoing);
                let handshake = &mut self.handshake;
                match handshake.handle_method(channel, method, endpoint, out)? {
                    Agreed::Nothing => {}
                    Agreed::FrameMax(frame_max) => self.decoder.agree(frame_max),
                    Agreed::Queue(queue) => {
                        self.bindings.handle_queue(queue);
                        self.send_changes();
                    }
                    Agreed::Everything => self.become_live(now),
                }
            }
        }
        Ok(())
    }

    fn handle_close(&mut self, channel: u16, closing: Closing) -> Result<(), Failure> {
        let closing = Closing {
            text: self.without_password(&closing.text),
            ..closing
        };
        let (endpoint, out) = (&self.endpoint, &mut self.outgoing);
        match channel {
            INWARD
                if closing.code == NOT_FOUND && self.handshake.handle_not_found(endpoint, out) =>
            {
                Ok(())
            }
            INWARD => {
                self.note_refused_bind(&closing);
                Err(Failure::Closed(closing.to_string()))
            }
            // The broker refuses a message, for lack of a permission for instance. If the exchange is gone, so are its
            // bindings, and a new connection is needed.
            OUTWARD if self.publisher.unconfirmed() > 0 && closing.code != NOT_FOUND => {
                let line = format!("amqp: {} refuses a message: {closing}", self.place);
                self.dialer.log_once("refusal", line);
                let reason = Unanswered::Refused(closing.to_string());
                self.publisher.handle_channel_closed(&reason);
                self.send(OUTWARD, methods::close_channel_ok());
                handshake::open_outward(&mut self.outgoing);
                Ok(())
            }
            _ => Err(Failure::Closed(closing.to_string())),
        }
    }

    /// A channel that we may not subscribe to must not end every new connection.
    fn note_refused_bind(&mut self, closing: &Closing) {
        if (closing.code, closing.method) == (ACCESS_REFUSED, BIND)
            && let Some(key) = self.bindings.handle_refusal()
        {
            let (place, key) = (&self.place, shown(&key));
            let line = format!("amqp: {place} does not permit to bind {key:?}: {closing}");
            self.dialer.log(Level::Warn, line);
        }
    }

    fn become_live(&mut self, now: Time) {
        if self.is_live() {
            return;
        }
        let after = self.dialer.handle_live(now);
        let line = format!("amqp: listening at {}{after}", self.place);
        self.dialer.log(Level::Info, line);
        let heartbeat = self.handshake.heartbeat();
        self.beat_at = now + heartbeat / 2;
        self.lost_at = now + 2 * heartbeat;
    }

    /// The broker's text, which may quote our password. A password that is also the user's name is no secret.
    fn without_password(&self, text: &str) -> String {
        let password = self.endpoint.password.as_str();
        match password == self.endpoint.username {
            true => shown(text),
            false => shown_without(password, text),
        }
    }

    fn reset(&mut self) {
        self.outgoing.clear();
        self.decoder = Decoder::default();
        self.handshake = Handshake::default();
        self.content = Content::None;
        self.bindings.reset();
        self.publisher.reset();
    }
}

impl Conversation for Session {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn dial(&mut self, now: Time) {
        let target = Target::tcp(self.endpoint.host.clone(), self.endpoint.port);
        self.dialer.dial(&target, now);
    }

    fn fail(&mut self, failure: Failure, now: Time) {
        let pause = self.dialer.give_up(1, failure.pause_max(), now);
        self.reset();
        let (place, millis) = (&self.place, pause.as_millis());
        let line = format!("amqp: {place}: {failure}; trying again in {millis} ms");
        self.dialer.log_failure(line, now);
    }

    fn begin(&mut self, now: Time) {
        self.reset();
        let header = AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1());
        codec::encode(&mut self.outgoing, &header);
        self.dialer
            .expect_greeting(now + limits::HANDSHAKE_DEADLINE);
    }

    fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message> {
        if !input.is_empty() {
            self.lost_at = now + 2 * self.handshake.heartbeat();
        }
        while self.dialer.is_connected() {
            let frame = match self.decoder.next_frame(input) {
                Ok(Some(frame)) => self.handle_frame(frame, now),
                Ok(None) => return None,
                Err(error) => Err(Failure::Protocol(error.to_string())),
            };
            match frame {
                Ok(None) => {}
                Ok(message) => return message,
                Err(failure) => self.fail(failure, now),
            }
        }
        // The rest came over a connection that has been given up.
        *input = &[];
        None
    }

    fn talk_deadline(&self) -> Option<Time> {
        Some(self.beat_at.min(self.lost_at))
    }

    fn on_talk_time(&mut self, now: Time) {
        if self.lost_at <= now {
            return self.fail(Failure::Late("a heartbeat"), now);
        }
        self.beat_at = now + self.handshake.heartbeat() / 2;
        // Anything else that waits to be sent is as good as a heartbeat.
        if self.outgoing.is_empty() {
            codec::encode(&mut self.outgoing, &AMQPFrame::Heartbeat);
        }
    }

    /// What waits to be sent is dropped with the connection.
    fn unsent(&self) -> &[u8] {
        &self.outgoing
    }

    fn on_sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
        self.send_changes();
    }
}

const NAME_RULE: &str = "a channel's name must be UTF-8 and at most 255 bytes long";

/// The name of a channel, if AMQP allows it.
fn channel_name(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    (name.len() <= limits::AMQP_NAME_BYTES_MAX).then_some(name)
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::parse_frame;
    use amq_protocol::protocol::{basic, channel, confirm, connection, exchange, queue};

    use std::time::Duration;

    use super::*;
    use crate::broker::amqp::ExchangeType;
    use crate::broker::link::dialer::Intent;
    use crate::random::Random;

    /// A session and its broker, which sends what a test wants.
    struct Scene {
        amqp: Session,
        now: Time,
        messages: Vec<Message>,
        log: Vec<String>,
    }

    impl Scene {
        /// A session whose connection is established.
        fn connected(exchange_type: ExchangeType) -> Scene {
            let endpoint = Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 5672,
                username: "user".to_owned(),
                password: "secret".to_owned(),
                vhost: "/".to_owned(),
                exchange: "exchange".to_owned(),
                exchange_type,
            };
            let mut scene = Scene {
                amqp: Session::new(endpoint, "client", 1),
                now: Time::from_micros(1),
                messages: Vec::new(),
                log: Vec::new(),
            };
            scene.connect();
            scene
        }

        /// A session that is live, and has nothing to send.
        fn live(exchange_type: ExchangeType) -> Scene {
            let mut scene = Scene::connected(exchange_type);
            scene.agree();
            scene
        }

        /// Dials, as soon as it is time.
        fn connect(&mut self) {
            self.now = self.now + limits::BACKOFF_MAX;
            self.amqp.on_time(self.now);
            let address = ([127, 0, 0, 1], 5672).into();
            self.amqp.on_resolved(Ok(vec![address]), self.now);
            self.amqp.on_connected(self.now);
        }

        fn agree(&mut self) {
            assert_eq!(self.said(), ["protocol header"]);
            self.broker_says(start("AMQPLAIN PLAIN"));
            assert_eq!(self.said(), ["0 connection.startok"]);
            self.broker_says(tune(2047, 131_072, 60));
            assert_eq!(self.said(), ["0 connection.tuneok", "0 connection.open"]);
            self.broker_says(open_ok());
            let opening = [
                "1 channel.open",
                "1 exchange.declare",
                "2 channel.open",
                "2 confirm.select",
            ];
            assert_eq!(self.said(), opening);
            self.broker_says(on(1, channel_open_ok()));
            self.broker_says(on(1, exchange_ok()));
            assert_eq!(self.said(), ["1 queue.declare"]);
            self.broker_says(on(2, channel_open_ok()));
            self.broker_says(on(2, select_ok()));
            self.broker_says(on(1, queue_ok()));
            assert!(!self.amqp.is_live());
            assert_eq!(self.said()[0], "1 basic.consume");
            self.broker_says(on(1, consume_ok()));
            assert!(self.amqp.is_live(), "{:?}", self.log);
        }

        fn broker_says(&mut self, frame: AMQPFrame) {
            let mut bytes = Vec::new();
            codec::encode(&mut bytes, &frame);
            self.bytes_come(&bytes);
        }

        fn message_comes(&mut self, channel: &str, payload: &[u8]) {
            let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
                routing_key: channel.into(),
                ..basic::Deliver::default()
            });
            let mut bytes = Vec::new();
            codec::encode_method(&mut bytes, 1, AMQPClass::Basic(deliver));
            codec::encode_content(&mut bytes, 1, payload, 4096);
            self.bytes_come(&bytes);
        }

        fn bytes_come(&mut self, bytes: &[u8]) {
            let mut input = bytes;
            while let Some(message) = self.amqp.next_message(&mut input, self.now) {
                self.messages.push(message);
            }
            assert!(input.is_empty());
            while let Some(intent) = self.amqp.dialer_mut().poll_intent() {
                if let Intent::Log(_, line) = intent {
                    self.log.push(line);
                }
            }
        }

        /// Takes what the session sends, frame by frame.
        fn said(&mut self) -> Vec<String> {
            let mut said = Vec::new();
            while !self.amqp.unsent().is_empty() {
                let bytes = self.amqp.unsent().to_vec();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (after, frame) = parse_frame(rest).expect("whole frames");
                    rest = after;
                    said.push(shown_frame(&frame));
                }
                self.amqp.on_sent(bytes.len());
            }
            said
        }

        /// Checks that the connection was given up, and the last line of the log.
        #[track_caller]
        fn expect_given_up(&mut self, words: &str) {
            assert!(!self.amqp.dialer().is_connected(), "{:?}", self.log);
            assert!(self.amqp.unsent().is_empty());
            let line = self.log.last().map(String::as_str).unwrap_or_default();
            assert!(line.contains(words), "{words} is missing in {line}");
            assert!(
                line.starts_with("amqp: amqp://user@127.0.0.1:5672: "),
                "{line}"
            );
            assert!(line.contains("; trying again in "), "{line}");
            assert!(!line.contains("secret"), "{line}");
        }

        fn answers(&mut self) -> Vec<(u64, Answer)> {
            std::iter::from_fn(|| self.amqp.poll_answer()).collect()
        }
    }

    /// A frame as its channel and the names of its class and method, or as its type.
    fn shown_frame(frame: &AMQPFrame) -> String {
        match frame {
            AMQPFrame::Method(channel, AMQPClass::Queue(queue::AMQPMethod::Bind(bind))) => {
                format!("{channel} bind {}", bind.routing_key)
            }
            AMQPFrame::Method(channel, AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind))) => {
                format!("{channel} unbind {}", unbind.routing_key)
            }
            AMQPFrame::Method(channel, method) => {
                let words = handshake::unexpected(method).to_string();
                let name = words.split(' ').nth(4).unwrap_or_default();
                format!("{channel} {name}")
            }
            AMQPFrame::Header(channel, header) => format!("{channel} header {}", header.body_size),
            AMQPFrame::Body(channel, part) => format!("{channel} body {}", part.len()),
            AMQPFrame::Heartbeat => "heartbeat".to_owned(),
            AMQPFrame::ProtocolHeader(_) => "protocol header".to_owned(),
            AMQPFrame::InvalidHeartbeat(_) => "invalid".to_owned(),
        }
    }

    fn on(channel: u16, method: AMQPClass) -> AMQPFrame {
        AMQPFrame::Method(channel, method)
    }

    fn of_connection(method: connection::AMQPMethod) -> AMQPFrame {
        on(0, AMQPClass::Connection(method))
    }

    fn start(mechanisms: &str) -> AMQPFrame {
        of_connection(connection::AMQPMethod::Start(connection::Start {
            version_minor: 9,
            mechanisms: mechanisms.into(),
            ..connection::Start::default()
        }))
    }

    fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPFrame {
        of_connection(connection::AMQPMethod::Tune(connection::Tune {
            channel_max,
            frame_max,
            heartbeat,
        }))
    }

    fn open_ok() -> AMQPFrame {
        of_connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
    }

    fn close_connection(reply_code: u16, text: &str) -> AMQPFrame {
        of_connection(connection::AMQPMethod::Close(connection::Close {
            reply_code,
            reply_text: text.into(),
            ..connection::Close::default()
        }))
    }

    fn close_channel(reply_code: u16, text: &str, method: (u16, u16)) -> AMQPClass {
        AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code,
            reply_text: text.into(),
            class_id: method.0,
            method_id: method.1,
        }))
    }

    fn blocked(reason: &str) -> AMQPFrame {
        let reason = reason.into();
        of_connection(connection::AMQPMethod::Blocked(connection::Blocked {
            reason,
        }))
    }

    fn unblocked() -> AMQPFrame {
        of_connection(connection::AMQPMethod::Unblocked(connection::Unblocked {}))
    }

    fn channel_open_ok() -> AMQPClass {
        AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
    }

    fn exchange_ok() -> AMQPClass {
        AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}))
    }

    fn queue_ok() -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk {
            queue: "amq.gen-1".into(),
            ..queue::DeclareOk::default()
        }))
    }

    fn consume_ok() -> AMQPClass {
        AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk::default()))
    }

    fn select_ok() -> AMQPClass {
        AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
    }

    fn bind_ok() -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}))
    }

    fn cancel() -> AMQPClass {
        AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel::default()))
    }

    fn ack(delivery_tag: u64, multiple: bool) -> AMQPClass {
        AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag,
            multiple,
        }))
    }

    fn nack(delivery_tag: u64) -> AMQPClass {
        AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag,
            ..basic::Nack::default()
        }))
    }

    #[test]
    fn channels_are_bound_and_their_messages_arrive() {
        let mut scene = Scene::connected(ExchangeType::Direct);
        scene.amqp.subscribe(b"early", false);
        scene.agree();
        assert_eq!(scene.amqp.unsettled(), 1, "it was bound with the rest");
        scene.broker_says(on(1, bind_ok()));
        scene.amqp.subscribe(b"a", false);
        scene.amqp.subscribe(b"a", false);
        scene.amqp.subscribe(b"b", false);
        scene.amqp.unsubscribe(b"early");
        assert_eq!(scene.said(), ["1 bind a", "1 bind b", "1 unbind early"]);
        scene.message_comes("a", b"1");
        scene.message_comes("early", b"2");
        scene.message_comes("b", &[b'x'; 10_000]);
        let lens: Vec<usize> = scene
            .messages
            .iter()
            .map(|message| message.payload.len())
            .collect();
        assert_eq!(lens, [1, 10_000]);
        // A new connection binds what is wanted by then.
        scene.amqp.on_lost(None, scene.now);
        assert_eq!(
            (scene.amqp.is_live(), scene.amqp.dialer().losses()),
            (false, 1)
        );
        scene.amqp.unsubscribe(b"b");
        scene.amqp.subscribe(b"c", false);
        scene.connect();
        scene.broker_says(start("PLAIN"));
        scene.broker_says(tune(0, 0, 0));
        scene.broker_says(open_ok());
        scene.broker_says(on(1, exchange_ok()));
        scene.said();
        scene.broker_says(on(1, queue_ok()));
        assert_eq!(scene.said(), ["1 basic.consume", "1 bind a", "1 bind c"]);
    }

    #[test]
    fn an_exchange_that_does_not_exist_is_declared() {
        let mut scene = Scene::connected(ExchangeType::Direct);
        for frame in [start("PLAIN"), tune(2047, 0, 60), open_ok()] {
            scene.broker_says(frame);
        }
        scene.said();
        scene.broker_says(on(1, close_channel(404, "NOT_FOUND", (40, 10))));
        let again = ["1 channel.closeok", "1 channel.open", "1 exchange.declare"];
        assert_eq!(scene.said(), again);
        scene.broker_says(on(1, exchange_ok()));
        assert_eq!(scene.said(), ["1 queue.declare"]);
        // If the declaration fails too, the connection is given up.
        scene.amqp.on_lost(None, scene.now);
        scene.connect();
        for frame in [start("PLAIN"), tune(2047, 0, 60), open_ok()] {
            scene.broker_says(frame);
        }
        for _ in 0..2 {
            scene.broker_says(on(
                1,
                close_channel(404, "NOT_FOUND - no 'secret'", (40, 10)),
            ));
        }
        scene.expect_given_up("closed by the server: 404 NOT_FOUND - no '***'");
    }

    #[test]
    fn a_failure_is_logged_in_one_line_and_followed_by_a_new_attempt() {
        // What the broker sends after our protocol header, frame by frame, and what is logged.
        #[rustfmt::skip]
        let table: &[(&[AMQPFrame], &str)] = &[
            (&[close_connection(501, "FRAME_ERROR")], "closed by the server: 501 FRAME_ERROR"),
            (&[tune(0, 0, 0)], "the server unexpectedly sent connection.tune"),
            (&[start("EXTERNAL")], "the server offers the login mechanisms \"EXTERNAL\", but not PLAIN"),
            (&[start("PLAIN"), start("PLAIN")], "the server unexpectedly sent connection.start"),
            (&[start("PLAIN"), close_connection(403, "ACCESS_REFUSED - not\nsecret")],
                "closed by the server: 403 ACCESS_REFUSED - not ***"),
            (&[start("PLAIN"), of_connection(connection::AMQPMethod::Secure(connection::Secure::default()))],
                "the server offers a login that takes more than a name and a password"),
            (&[start("PLAIN"), tune(0, 4095, 0)], "the server offers frames of at most 4095 bytes, but 4096 are needed"),
            (&[start("PLAIN"), tune(1, 0, 0)], "the server offers only one channel per connection, but two are needed"),
            (&[start("PLAIN"), tune(0, 0, 0), close_connection(530, "NOT_ALLOWED - no vhost")],
                "closed by the server: 530 NOT_ALLOWED - no vhost"),
            (&[start("PLAIN"), tune(0, 0, 0), open_ok(), on(1, close_channel(403, "ACCESS_REFUSED", (40, 10)))],
                "closed by the server: 403 ACCESS_REFUSED"),
            (&[start("PLAIN"), tune(0, 0, 0), open_ok(), on(2, close_channel(540, "NOT_IMPLEMENTED", (85, 10)))],
                "closed by the server: 540 NOT_IMPLEMENTED"),
            (&[start("PLAIN"), tune(0, 0, 0), open_ok(), on(1, exchange_ok()), on(1, consume_ok())],
                "the server unexpectedly sent basic.consumeok"),
        ];
        for (frames, words) in table {
            let mut scene = Scene::connected(ExchangeType::Direct);
            for frame in *frames {
                scene.broker_says(frame.clone());
            }
            scene.expect_given_up(words);
            assert_eq!(scene.amqp.dialer().losses(), 0);
        }
        #[rustfmt::skip]
        let table: &[(AMQPFrame, &str)] = &[
            (close_connection(320, "CONNECTION_FORCED"), "closed by the server: 320 CONNECTION_FORCED"),
            (on(1, close_channel(404, "NOT_FOUND", (0, 0))), "closed by the server: 404 NOT_FOUND"),
            (on(2, close_channel(404, "NOT_FOUND", (0, 0))), "closed by the server: 404 NOT_FOUND"),
            (on(1, cancel()), "closed by the server: the consumer is cancelled"),
            (on(1, bind_ok()), "the server unexpectedly sent queue.bindok"),
            (on(3, ack(1, false)), "the server unexpectedly sent basic.ack"),
            // Messages are returned only to publishers that ask for it.
            (on(2, AMQPClass::Basic(basic::AMQPMethod::Return(basic::Return::default()))),
                "the server sent an unreadable frame (method 60.50)"),
            (on(1, queue_ok()), "the server unexpectedly sent queue.declareok"),
            (tune(0, 0, 0), "the server unexpectedly sent connection.tune"),
        ];
        for (frame, words) in table {
            let mut scene = Scene::live(ExchangeType::Direct);
            scene.broker_says(frame.clone());
            scene.expect_given_up(words);
            assert_eq!(scene.amqp.dialer().losses(), 1);
        }
        let table: &[(&[u8], &str)] = &[
            (
                b"HTTP/1.1",
                "the server sent something other than AMQP: a frame of type 72",
            ),
            (
                b"AMQP\0\0\x09\x01",
                "the server sent the header of another AMQP version",
            ),
            (
                b"\x03\0\x01\x7f\0\0\0",
                "the server sent a frame of 2130706440 bytes, although 131072 is the limit",
            ),
            (
                b"\x08\0\0\0\0\0\0\0",
                "the server sent a frame without its end octet",
            ),
            (
                b"\x03\0\x01\0\0\0\0\xce",
                "the server unexpectedly sent a part of a message",
            ),
            (
                b"\x03\0\x09\0\0\0\0\xce",
                "the server unexpectedly sent a message over channel 9",
            ),
        ];
        for (bytes, words) in table {
            let mut scene = Scene::live(ExchangeType::Direct);
            scene.bytes_come(bytes);
            scene.expect_given_up(words);
        }
    }

    #[test]
    fn both_sides_send_heartbeats() {
        // What the broker proposes, in seconds, and what is agreed.
        for (wanted, agreed) in [(60, 2), (0, 2), (1, 1)] {
            let mut scene = Scene::connected(ExchangeType::Direct);
            for frame in [start("PLAIN"), tune(0, 0, wanted), open_ok()] {
                scene.broker_says(frame);
            }
            for method in [exchange_ok(), queue_ok(), consume_ok()] {
                scene.broker_says(on(1, method));
            }
            scene.broker_says(on(2, select_ok()));
            scene.said();
            let interval = Duration::from_secs(agreed);
            let live_at = scene.now;
            for beat in 1..4 {
                let at = live_at + interval / 2 * beat;
                assert_eq!(scene.amqp.deadline(), Some(at));
                scene.now = at;
                scene.amqp.on_time(at);
                assert_eq!(scene.said(), ["heartbeat"]);
            }
            scene.broker_says(AMQPFrame::Heartbeat);
            let heard_at = scene.now;
            while scene.amqp.is_live() {
                scene.now = scene.amqp.deadline().unwrap();
                scene.amqp.on_time(scene.now);
                scene.said();
            }
            assert_eq!(scene.now, heard_at + 2 * interval);
            scene.bytes_come(b"");
            scene.expect_given_up("timed out waiting for a heartbeat");
        }
    }

    #[test]
    fn a_broker_that_does_not_complete_the_handshake_is_given_up() {
        let mut scene = Scene::connected(ExchangeType::Direct);
        scene.broker_says(start("PLAIN"));
        assert_eq!(
            scene.amqp.deadline(),
            Some(scene.now + limits::HANDSHAKE_DEADLINE)
        );
        scene.now = scene.now + limits::HANDSHAKE_DEADLINE;
        scene.amqp.on_time(scene.now);
        scene.bytes_come(b"");
        scene.expect_given_up("timed out waiting for the end of the handshake");
    }

    #[test]
    fn published_messages_are_answered_each_once() {
        let refused = |words: &str| Err(Unanswered::Refused(words.to_owned()));
        let mut scene = Scene::connected(ExchangeType::Direct);
        assert_eq!(
            scene.amqp.publish(1, b"a", b"too early"),
            Err(Unanswered::Lost)
        );
        scene.agree();
        for id in 1..=5 {
            assert_eq!(scene.amqp.publish(id, b"a", b"payload"), Ok(()));
        }
        let one = ["2 basic.publish", "2 header 7", "2 body 7"];
        assert_eq!(scene.said(), one.repeat(5));
        scene.broker_says(on(2, ack(2, true)));
        scene.broker_says(on(2, nack(4)));
        scene.broker_says(on(2, ack(3, false)));
        let could_not = refused("the broker could not accept the message");
        assert_eq!(
            scene.answers(),
            [(1, Ok(())), (2, Ok(())), (4, could_not), (3, Ok(()))]
        );

        scene.broker_says(blocked("low on memory"));
        assert_eq!(scene.amqp.publish(6, b"a", b"payload"), Ok(()));
        assert_eq!(scene.answers(), [(6, refused("blocked: low on memory"))]);
        scene.broker_says(unblocked());
        assert!(
            scene
                .log
                .iter()
                .any(|line| line.ends_with("blocks publishers: low on memory"))
        );
        assert!(
            scene
                .log
                .iter()
                .any(|line| line.ends_with("no longer blocks publishers"))
        );

        // A refusal answers all messages that are not confirmed, and does not affect later ones.
        assert_eq!(scene.amqp.publish(7, b"a", b""), Ok(()));
        assert_eq!(scene.said(), ["2 basic.publish", "2 header 0"]);
        scene.broker_says(on(2, close_channel(403, "ACCESS_REFUSED", (60, 40))));
        let words = refused("403 ACCESS_REFUSED");
        assert_eq!(scene.answers(), [(5, words.clone()), (7, words)]);
        let reopening = ["2 channel.closeok", "2 channel.open", "2 confirm.select"];
        assert_eq!(scene.said(), reopening);
        assert!(scene.amqp.is_live());
        assert_eq!(scene.amqp.publish(8, b"a", b"payload"), Ok(()));
        scene.broker_says(on(2, channel_open_ok()));
        scene.broker_says(on(2, select_ok()));
        scene.broker_says(on(2, ack(1, false)));
        assert_eq!(scene.answers(), [(8, Ok(()))]);

        // If the exchange is gone, so are its bindings.
        assert_eq!(scene.amqp.publish(20, b"a", b""), Ok(()));
        scene.broker_says(on(2, close_channel(404, "NOT_FOUND", (60, 40))));
        scene.expect_given_up("closed by the server: 404 NOT_FOUND");
        assert_eq!(scene.answers(), [(20, Err(Unanswered::Lost))]);
        scene.connect();
        scene.agree();

        let long = [b'x'; 256];
        for name in [&b"\xff"[..], &long] {
            assert_eq!(scene.amqp.publish(9, name, b""), refused(NAME_RULE));
        }
        assert_eq!(scene.amqp.publish(10, b"a", b""), Ok(()));
        scene.amqp.on_lost(None, scene.now);
        assert_eq!(scene.answers(), [(10, Err(Unanswered::Lost))]);
        assert_eq!(scene.amqp.publish(11, b"a", b""), Err(Unanswered::Lost));
        assert_eq!(scene.answers(), []);
    }

    #[test]
    fn messages_are_published_after_the_binds_that_were_wanted_before() {
        let mut scene = Scene::live(ExchangeType::Direct);
        scene.amqp.subscribe(b"a", false);
        assert_eq!(scene.amqp.publish(1, b"a", b"x"), Ok(()));
        scene.amqp.subscribe(b"b", false);
        assert_eq!(scene.amqp.publish(2, b"c", b""), Ok(()));
        assert_eq!(scene.said(), ["1 bind a", "1 bind b"]);
        scene.broker_says(on(1, bind_ok()));
        assert_eq!(scene.said(), ["2 basic.publish", "2 header 1", "2 body 1"]);
        scene.broker_says(on(1, bind_ok()));
        assert_eq!(scene.said(), ["2 basic.publish", "2 header 0"]);
        assert_eq!(scene.amqp.publish(3, b"a", b""), Ok(()));
        assert_eq!(scene.said(), ["2 basic.publish", "2 header 0"]);
        scene.broker_says(on(2, ack(3, true)));
        assert_eq!(scene.answers(), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);

        // Waiting messages are lost with the connection, and refused while the broker blocks publishers.
        scene.amqp.unsubscribe(b"a");
        assert_eq!(scene.amqp.publish(4, b"a", b"x"), Ok(()));
        scene.amqp.on_lost(None, scene.now);
        assert_eq!(scene.answers(), [(4, Err(Unanswered::Lost))]);
        scene.connect();
        scene.agree();
        assert_eq!(scene.amqp.publish(5, b"b", b"x"), Ok(()));
        scene.broker_says(blocked("low on memory"));
        scene.broker_says(on(1, bind_ok()));
        let words = "blocked: low on memory".to_owned();
        assert_eq!(scene.answers(), [(5, Err(Unanswered::Refused(words)))]);
    }

    #[test]
    fn nothing_grows_without_bound_while_the_broker_takes_nothing() {
        let mut scene = Scene::live(ExchangeType::Direct);
        for number in 0..10_000 {
            scene
                .amqp
                .subscribe(format!("{number:0>200}").as_bytes(), false);
            assert!(scene.amqp.unsent().len() < limits::AMQP_BINDS_BYTES + 512);
        }
        let payload = vec![b'x'; 100_000];
        let taken = (0..1_000)
            .take_while(|&id| scene.amqp.publish(id, b"a", &payload).is_ok())
            .count();
        let most = limits::COMMAND_BYTES_MAX / payload.len();
        assert!((most - 2..=most).contains(&taken), "{taken} of {most}");
        assert!(scene.amqp.unsent().len() <= limits::COMMAND_BYTES_MAX);
        let binds = scene
            .said()
            .iter()
            .filter(|said| said.starts_with("1 bind"))
            .count();
        assert_eq!(binds, 10_000, "the rest follows as it is taken");
        assert!(
            !scene.amqp.has_room_for(100_000),
            "what waits for them counts"
        );
        for _ in 0..10_000 {
            scene.broker_says(on(1, bind_ok()));
        }
        let bodies = scene.said();
        let bodies = bodies
            .iter()
            .filter(|said| said.contains("publish"))
            .count();
        assert_eq!(bodies, 41);
        // The largest message has room beside binds.
        assert!(
            scene
                .amqp
                .publish(0, b"a", &vec![b'x'; limits::AMQP_BODY_BYTES_MAX as usize])
                .is_ok()
        );
    }

    #[test]
    fn a_forbidden_channel_does_not_prevent_the_others() {
        let mut scene = Scene::live(ExchangeType::Topic);
        scene.amqp.subscribe(b"forbidden", false);
        scene.amqp.subscribe(b"open", false);
        scene.said();
        scene.broker_says(on(1, close_channel(403, "ACCESS_REFUSED", (50, 20))));
        scene.expect_given_up("403 ACCESS_REFUSED");
        assert!(
            scene
                .log
                .iter()
                .any(|line| line.contains("does not permit to bind \"forbidden\""))
        );
        scene.connect();
        for frame in [start("PLAIN"), tune(0, 0, 0), open_ok()] {
            scene.broker_says(frame);
        }
        scene.said();
        scene.broker_says(on(1, exchange_ok()));
        scene.broker_says(on(1, queue_ok()));
        assert_eq!(
            scene.said(),
            ["1 queue.declare", "1 basic.consume", "1 bind open"]
        );
    }

    #[test]
    fn random_frames_never_cause_a_panic() {
        let mut random = Random::new(7);
        let mut words = Vec::new();
        for method in [
            bind_ok(),
            ack(1, true),
            nack(2),
            select_ok(),
            cancel(),
            queue_ok(),
            consume_ok(),
        ] {
            for channel in [1, 2] {
                let mut bytes = Vec::new();
                codec::encode_method(&mut bytes, channel, method.clone());
                words.push(bytes);
            }
        }
        for channel in [0, 1, 2, 3] {
            let mut bytes = Vec::new();
            codec::encode_content(&mut bytes, channel, b"payload", 12);
            words.push(bytes);
            words.push(
                b"\x01\0\x01\0\0\0\x11\0\x3c\0\x3c\0\0\0\0\0\0\0\0\x07\0\0\x01a\xce".to_vec(),
            );
        }
        for _ in 0..2_000 {
            let mut scene = match random.one_in(2) {
                true => Scene::live(ExchangeType::Topic),
                false => Scene::connected(ExchangeType::Topic),
            };
            scene.amqp.subscribe(b"a", false);
            let _ = scene.amqp.publish(1, b"a", b"payload");
            for _ in 0..20 {
                let mut bytes = words[random.below(words.len() as u64) as usize].clone();
                if random.one_in(8) {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.next_u64() as u8;
                }
                if random.one_in(16) {
                    bytes.truncate(random.below(bytes.len() as u64) as usize);
                }
                scene.bytes_come(&bytes);
            }
            scene.amqp.on_lost(None, scene.now);
            assert!(scene.answers().len() <= 1);
        }
    }
}
