//! Requests: a connection's input becomes replies and subscriptions. It owns the order in which a
//! connection's requests are answered; it must not know paths (`route`) or grammar (`proto::http`).

use std::net::IpAddr;

use super::conn::{About, Answer, Key, Pending, Phase, Reading, Verdict};
use super::endings::stopping_reply;
use super::route::{self, Action};
use super::settings::Settings;
use super::stats::CloseReason;
use super::{Effect, Engine};
use crate::limits;
use crate::proto::body::{Body, BodyError};
use crate::proto::http::{self, Framing, HeadError, Method, Request};
use crate::proto::reply::{self, Delivery, Reply};
use crate::proto::{forwarded, target};

/// What the input at hand amounts to.
enum Step {
    /// Nothing yet.
    Wait,
    /// A request head.
    Head(Box<Accepted>),
    /// The body of the pending request has ended.
    BodyEnd,
    /// The input cannot be followed any further.
    Refuse(Reply),
}

/// A request as far as it is needed after its bytes are gone.
pub(super) struct Accepted {
    action: Action,
    head_only: bool,
    pub(super) http_11: bool,
    pub(super) keep_alive: bool,
    framing: Framing,
    expects_continue: bool,
    pub(super) client_ip: IpAddr,
    pub(super) accepts_stream: bool,
    pub(super) is_xhr: bool,
    pub(super) last_event_id: Option<String>,
    pub(super) token: Option<String>,
    pub(super) path: Box<str>,
    pub(super) user_agent: Box<str>,
}

impl Engine {
    /// Bytes were read from a client.
    pub fn on_input(&mut self, key: Key, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        // Whatever a client sends behind the head of a subscription, or after we have ended, is
        // discarded; reading it is what keeps the ends of connections visible.
        if let Phase::Subscribed(subscription) = &mut conn.phase {
            // Nor can a request behind a long poll be answered that was not read as one.
            subscription.poll = subscription.poll.map(|_| false);
            match conn.chatter.add(bytes.len(), self.now) {
                Verdict::Fine => {}
                Verdict::Pause => {
                    let until = self.now + limits::SUBSCRIBER_PAUSE;
                    return self.pauses.push_back((until, key));
                }
                Verdict::Close => return self.close(key, CloseReason::Protocol),
            }
        }
        if let Phase::Reading(reading) = &mut conn.phase {
            let is_blank = bytes.iter().all(|byte| b"\r\n".contains(byte));
            if reading.is_idle() && reading.answered > 0 && !is_blank {
                conn.deadline = self.now + limits::REQUEST_DEADLINE;
            }
            reading.buffer.extend_from_slice(bytes);
            self.advance(key);
        }
        self.queue_read(key);
    }

    /// Reads again from subscribers whose pauses are over.
    pub(super) fn end_pauses(&mut self) {
        while let Some(&(until, key)) = self.pauses.front()
            && until <= self.now
        {
            self.pauses.pop_front();
            if let Some(conn) = self.conns.get_mut(key) {
                conn.chatter.resume();
                self.queue_read(key);
            }
        }
    }

    /// The client has sent its last byte. It may have closed, or only have ended its side (as `nc -N`
    /// does), which cannot be told apart until something is sent.
    pub fn on_end(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.readable = false;
        let known = std::mem::replace(&mut conn.peer_ended, true);
        match &conn.phase {
            _ if conn.hung_up => {
                let reason = conn.reason_of_hangup();
                self.close(key, reason);
            }
            // The same is found out by an empty reply.
            Phase::Subscribed(subscription) if subscription.poll.is_some() => {
                self.answer_poll(key, &[]);
            }
            // A comment is answered with a reset where nobody is left.
            Phase::Subscribed(_) if !known => self.send_comment(key),
            // Whole requests that are still in the buffer are answered first.
            Phase::Reading(_) => self.advance(key),
            Phase::Lingering(reason) => {
                let reason = *reason;
                self.close(key, reason);
            }
            _ => {}
        }
    }

    /// Takes requests from the input until it holds no whole one, or until a reply is not yet sent: the
    /// next request waits for that, so that a client that does not read cannot fill our memory.
    pub(super) fn advance(&mut self, key: Key) {
        loop {
            let Some(conn) = self.conns.get_mut(key) else {
                return;
            };
            let has_been_answered = conn.has_been_answered();
            let Phase::Reading(reading) = &mut conn.phase else {
                return;
            };
            if reading.rendering || !has_been_answered {
                return;
            }
            let step = match &mut reading.pending {
                Some(pending) => take_body(&mut reading.buffer, pending, &mut self.unproven_bytes),
                None => take_head(reading, &conn.about, &self.settings),
            };
            match step {
                Step::Wait if conn.peer_ended => return self.close(key, CloseReason::Client),
                Step::Wait => return,
                Step::Head(accepted) => self.begin(key, *accepted),
                Step::BodyEnd => self.answer_pending(key),
                Step::Refuse(reply) => self.refuse(key, &reply, CloseReason::Protocol),
            }
        }
    }

    /// Answers a request that is not whole at its deadline.
    pub(super) fn refuse_late(&mut self, key: Key) {
        let seconds = limits::REQUEST_DEADLINE.as_secs();
        let message = format!("the request was not whole after {seconds} s");
        self.refuse(key, &Reply::error(408, &message), CloseReason::Idle);
    }

    /// Acts on a head.
    fn begin(&mut self, key: Key, mut accepted: Accepted) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let bytes_max = match accepted.action {
            Action::Publish(_) => limits::PUBLISH_BODY_BYTES_MAX,
            _ => limits::BODY_BYTES_MAX,
        };
        let body = match Body::new(accepted.framing, bytes_max) {
            Ok(body) => body,
            Err(error) => {
                let reply = refusal_of_body(error, bytes_max);
                return self.refuse(key, &reply, CloseReason::Protocol);
            }
        };
        let is_probe = matches!(accepted.action, Action::Show(_) | Action::Subscribe(_));
        if self.stopping && !is_probe {
            return self.refuse(key, &stopping_reply(), CloseReason::Drain);
        }
        let answer = match accepted.action {
            Action::Subscribe(ref topics) => {
                // What follows the head is discarded, so that a long poll's connection cannot be used again where
                // something follows: a part of it would be taken for the next request.
                let Phase::Reading(reading) = &conn.phase else {
                    return;
                };
                accepted.keep_alive &= body.has_ended() && reading.buffer.is_empty();
                let begun = self.subscribe(key, topics, &accepted);
                return begun.unwrap_or_else(|reply| self.refuse(key, &reply, CloseReason::Shed));
            }
            Action::CleanUp(ref cleanup) => {
                Answer::Reply(self.clean_up(cleanup, accepted.client_ip))
            }
            Action::ShowStream(_) => {
                let extra = self.settings.streams.head_extra();
                let out = conn.outbox.buffer();
                reply::encode_stream_head(out, accepted.http_11, extra, self.unix_seconds);
                // The head is exactly that of a stream, which nothing announces the end of; an HTTP/1.0
                // client, and one that sends a body with it, is told the end by the end.
                let is_whole = body.has_ended();
                let keep_alive = accepted.keep_alive && is_whole && !self.stopping;
                return self.after_reply(key, keep_alive);
            }
            Action::Publish(submission) => Answer::Submission(submission),
            Action::Show(document) => Answer::Document(document),
            Action::Reply(reply) => Answer::Reply(reply),
        };
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Reading(reading) = &mut conn.phase else {
            return;
        };
        let has_body = !body.has_ended();
        let wants_continue = has_body && accepted.expects_continue && reading.buffer.is_empty();
        let (keep_alive, head_only) = (accepted.keep_alive, accepted.head_only);
        reading.pending = Some(Pending {
            body,
            answer,
            keep_alive,
            head_only,
        });
        if wants_continue {
            conn.outbox.buffer().extend_from_slice(reply::CONTINUE);
            self.queue_write(key);
        }
    }

    /// The whole request is read: answers it, or asks for the document that is the answer.
    fn answer_pending(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Reading(reading) = &mut conn.phase else {
            return;
        };
        match reading.pending.as_ref().map(|pending| &pending.answer) {
            Some(&Answer::Document(document)) => {
                reading.rendering = true;
                // It is whole; what it may have to wait for has a deadline of its own.
                conn.deadline = self.now + limits::REQUEST_DEADLINE;
                self.effects.push_back(Effect::Render(key, document));
            }
            Some(Answer::Reply(reply)) => {
                let reply = reply.clone();
                self.on_rendered(key, &reply);
            }
            Some(Answer::Submission(_)) => self.on_submission(key),
            None => {}
        }
    }

    /// The document that was asked for, or any other answer to the request that was read last.
    pub fn on_rendered(&mut self, key: Key, reply: &Reply) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Reading(reading) = &mut conn.phase else {
            return;
        };
        reading.rendering = false;
        let Some(Pending {
            keep_alive,
            head_only,
            ..
        }) = reading.pending.take()
        else {
            return;
        };
        // There is no time for a next request, which nobody would read.
        let keep_alive = keep_alive && !self.stopping;
        self.put_reply(key, reply, keep_alive, head_only);
    }

    /// Puts a reply into the outbox of a connection that reads requests, and goes on with it.
    pub(super) fn put_reply(&mut self, key: Key, reply: &Reply, keep_alive: bool, head_only: bool) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let delivery = Delivery {
            keep_alive,
            unix_seconds: self.unix_seconds,
        };
        reply::encode_head(conn.outbox.buffer(), reply, delivery);
        if !head_only {
            conn.outbox.attach(&reply.body);
        }
        self.after_reply(key, keep_alive);
    }

    /// Answers what cannot be followed any further, and ends.
    pub(super) fn refuse(&mut self, key: Key, reply: &Reply, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let delivery = Delivery {
            keep_alive: false,
            unix_seconds: self.unix_seconds,
        };
        reply::encode_head(conn.outbox.buffer(), reply, delivery);
        conn.outbox.attach(&reply.body);
        self.drain(key, reason, None);
    }

    /// A reply lies in the outbox: goes on with the next request, or to the end.
    fn after_reply(&mut self, key: Key, keep_alive: bool) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Reading(reading) = &mut conn.phase else {
            return;
        };
        if !keep_alive {
            return self.drain(key, CloseReason::Answered, None);
        }
        reading.answered = reading.answered.saturating_add(1);
        conn.deadline = self.now + limits::REQUEST_DEADLINE;
        conn.progress_at = self.now;
        self.queue_write(key);
    }
}

impl Reading {
    /// Whether no part of a request is at hand.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.pending.is_none()
    }

    /// Bytes that are held for a client who has not shown a key yet.
    pub(super) fn unproven(&self) -> usize {
        self.pending.as_ref().map_or(0, Pending::unproven)
    }

    /// Whether parsing the head again is worth it: when its end may have come, or when it has doubled.
    fn is_worth_parsing(&mut self) -> bool {
        // The end of a head is an LF that an LF or a CR LF follows.
        let from = self.searched.saturating_sub(2);
        let fresh = &self.buffer[from..];
        let has_end = fresh.windows(2).any(|pair| pair == b"\n\n")
            || fresh.windows(3).any(|triple| triple == b"\n\r\n");
        self.searched = self.buffer.len();
        has_end || self.buffer.len() >= self.parse_at
    }

    /// Drops a consumed head.
    fn consume(&mut self, len: usize) {
        self.buffer.drain(..len);
        self.searched = 0;
        self.parse_at = 0;
    }
}

impl Pending {
    fn unproven(&self) -> usize {
        match &self.answer {
            Answer::Submission(submission) => submission.unproven(),
            Answer::Reply(_) | Answer::Document(_) => 0,
        }
    }
}

/// Takes a whole head from the input.
fn take_head(reading: &mut Reading, about: &About, settings: &Settings) -> Step {
    // Empty lines before a request are nothing (RFC 9112 §2.2), and must not be parsed again and again.
    let blank = reading
        .buffer
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    if blank > 0 {
        reading.consume(blank);
    }
    if reading.buffer.is_empty() || !reading.is_worth_parsing() {
        return Step::Wait;
    }
    let (accepted, head_len) = match http::parse_head(&reading.buffer) {
        Ok(Some((request, head_len))) => (accept(&request, about, settings), head_len),
        Ok(None) => {
            reading.parse_at = (reading.buffer.len() * 2).min(limits::HEAD_BYTES_MAX);
            return Step::Wait;
        }
        Err(error) => return Step::Refuse(refusal_of_head(error)),
    };
    reading.consume(head_len);
    Step::Head(Box::new(accepted))
}

fn accept(request: &Request, about: &About, settings: &Settings) -> Accepted {
    let target = target::split(&request.target).ok();
    let (path, query) = target.map_or(("", ""), |target| (target.path, target.query));
    let forwarded =
        forwarded::client_address(&request.forwarded_for, settings.admission.trusted_proxies);
    // The parameter is for clients that cannot set the field; the field is a browser's own.
    let last_event_id = match std::str::from_utf8(&request.last_event_id) {
        Ok("") | Err(_) => target::query_values(query, "lastEventId").next(),
        Ok(id) => Some(id.to_owned()),
    };
    Accepted {
        action: route::route(request, settings, about.is_admin),
        head_only: request.method == Method::Head,
        http_11: request.http_11,
        keep_alive: request.keep_alive,
        framing: request.framing,
        expects_continue: request.expects_continue,
        client_ip: forwarded.unwrap_or(about.peer_ip),
        accepts_stream: request.accepts_stream,
        is_xhr: request.is_xhr,
        last_event_id,
        token: route::token_of(query).filter(|token| route::is_token(token)),
        path: shown(path.as_bytes()),
        user_agent: shown(&request.user_agent),
    }
}

/// A client's words as they are kept to be shown: readable, and bounded. Control characters, of which some
/// above ASCII steer terminals as well, become escapes.
pub(super) fn shown(bytes: &[u8]) -> Box<str> {
    let cut = &bytes[..bytes.len().min(limits::SHOWN_BYTES_MAX)];
    let mut shown = String::with_capacity(cut.len());
    for letter in String::from_utf8_lossy(cut).chars() {
        let end = shown.len();
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
        // Escapes, and what stands for bytes that are no UTF-8, are longer than what they stand for.
        if shown.len() > limits::SHOWN_BYTES_MAX {
            shown.truncate(end);
            break;
        }
    }
    shown.into()
}

/// Takes bytes of a body from the input. `unproven` is what is held for all who have not shown a key yet: what
/// one of them can have us hold is bounded by a body's length, and what all of them can by this.
fn take_body(buffer: &mut Vec<u8>, pending: &mut Pending, unproven: &mut usize) -> Step {
    let before = pending.unproven();
    let kept = match &mut pending.answer {
        Answer::Submission(submission) => Some(&mut submission.body),
        Answer::Reply(_) | Answer::Document(_) => None,
    };
    let taken = pending.body.consume(buffer, kept);
    *unproven += pending.unproven() - before;
    match taken {
        Ok(_) if *unproven > limits::UNPROVEN_BYTES_MAX => Step::Refuse(Reply {
            extra: "Retry-After: 5\r\n".into(),
            ..Reply::error(
                503,
                "too much is being sent; send the key as a bearer token",
            )
        }),
        Ok((len, ended)) => {
            buffer.drain(..len);
            if ended { Step::BodyEnd } else { Step::Wait }
        }
        Err(error) => Step::Refuse(refusal_of_body(error, pending.body.bytes_max())),
    }
}

fn refusal_of_head(error: HeadError) -> Reply {
    match error {
        HeadError::Malformed => Reply::error(400, "this is not an HTTP/1.x request"),
        HeadError::Host => Reply::error(400, "send one Host header field"),
        HeadError::Framing => Reply::error(
            400,
            "send either one Content-Length or Transfer-Encoding: chunked",
        ),
        HeadError::TooLarge => {
            let (bytes, lines) = (limits::HEAD_BYTES_MAX, limits::HEADERS_MAX);
            Reply::error(
                431,
                &format!("a head may have {bytes} bytes and {lines} fields"),
            )
        }
        HeadError::Coding => Reply::error(501, "the only transfer coding known here is chunked"),
        HeadError::Version => Reply::error(505, "use HTTP/1.1 or HTTP/1.0"),
        HeadError::Expectation => Reply::error(417, "the only expectation known is 100-continue"),
    }
}

fn refusal_of_body(error: BodyError, bytes_max: u64) -> Reply {
    match error {
        BodyError::Malformed => Reply::error(400, "the body is not chunked as announced"),
        BodyError::TooLarge => Reply::error(413, &format!("the body may have {bytes_max} bytes")),
    }
}
