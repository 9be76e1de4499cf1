//! What the broker says: each frame and what follows from it. It owns the order in which things are agreed and what
//! a refusal costs; it must not know how the connection came about or what is done when it ends.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

use super::{INWARD, OUTWARD, Session, Step, Talk};
use crate::broker::Message;
use crate::broker::amqp::codec::{Closing, Frame, FrameError};
use crate::broker::amqp::content::{Content, OutOfTurn, Progress};
use crate::broker::amqp::{SessionError, methods};
use crate::broker::{Unanswered, shown};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

/// The channel of the connection itself.
const CONNECTION: u16 = 0;

/// The reply code that says that there is no such thing.
const NOT_FOUND: u16 = 404;
/// The reply code that says that somebody may not do it.
const ACCESS_REFUSED: u16 = 403;
/// `queue.bind`.
const BIND: (u16, u16) = (50, 20);

impl Session {
    /// Follows one frame; the message that it has made whole, if any.
    pub(super) fn on_frame(
        &mut self,
        frame: Frame,
        now: Time,
    ) -> Result<Option<Message>, SessionError> {
        match frame {
            Frame::Heartbeat => Ok(None),
            Frame::Body(channel, part) => {
                let progress = self.content(channel)?.on_body(part);
                self.on_progress(progress)
            }
            Frame::Header(channel, len) => {
                let progress = self.content(channel)?.on_header(len);
                self.on_progress(progress)
            }
            Frame::Deliver(INWARD, key) => {
                let key = self.bindings.may_want(&key).then_some(key);
                let announced = self.content(INWARD)?.announce(key);
                self.on_progress(announced.map(|()| Progress::Nothing))
            }
            // We do not ask for messages that reached nobody; where one comes, its confirmation comes as well.
            Frame::Return(channel) => {
                let announced = self.content(channel)?.announce(None);
                self.on_progress(announced.map(|()| Progress::Nothing))
            }
            Frame::Close(channel, closing) => self.on_close(channel, closing).map(|()| None),
            Frame::Start {
                version,
                mechanisms,
            } => self.on_start(version, &mechanisms).map(|()| None),
            Frame::Method(channel, method) => self.on_method(channel, method, now).map(|()| None),
            Frame::Deliver(..) => Err(SessionError::OutOfTurn("a message".to_owned())),
        }
    }

    fn content(&mut self, channel: u16) -> Result<&mut Content, SessionError> {
        match channel {
            INWARD => Ok(&mut self.contents[0]),
            OUTWARD => Ok(&mut self.contents[1]),
            _ => Err(SessionError::OutOfTurn(format!(
                "a message over channel {channel}"
            ))),
        }
    }

    fn on_progress(
        &mut self,
        progress: Result<Progress, OutOfTurn>,
    ) -> Result<Option<Message>, SessionError> {
        match progress {
            Ok(Progress::Nothing) => Ok(None),
            Ok(Progress::Whole(message)) => Ok(Some(message)),
            Ok(Progress::TooLarge(len)) => {
                self.skipped += 1;
                if !std::mem::replace(&mut self.logged[1], true) {
                    let line = format!(
                        "amqp: a message of {len} bytes is skipped, as are more like it: send {} bytes at most",
                        limits::AMQP_BODY_BYTES_MAX
                    );
                    self.dialer.log(Level::Warn, line);
                }
                Ok(None)
            }
            Err(OutOfTurn) => Err(SessionError::OutOfTurn("a part of a message".to_owned())),
        }
    }

    /// The broker's first words: logs in, if it can be done in our way.
    fn on_start(&mut self, version: (u8, u8), mechanisms: &str) -> Result<(), SessionError> {
        let Talk::Greeting { step, .. } = &mut self.talk else {
            return Err(SessionError::OutOfTurn("connection.start".to_owned()));
        };
        if *step != Step::Start {
            return Err(SessionError::OutOfTurn("connection.start".to_owned()));
        }
        if version != (0, 9) {
            return Err(SessionError::Protocol(FrameError::OtherVersion));
        }
        if !mechanisms.split(' ').any(|name| name == "PLAIN") {
            let offered = shown(mechanisms);
            let words = format!("no login by PLAIN, but only by {offered:?}");
            return Err(SessionError::Unfit(words));
        }
        *step = Step::Tune;
        self.say(
            CONNECTION,
            methods::start_ok(&self.endpoint, &self.client_name),
        );
        Ok(())
    }

    fn on_method(
        &mut self,
        channel: u16,
        method: AMQPClass,
        now: Time,
    ) -> Result<(), SessionError> {
        let step = match self.talk {
            Talk::Greeting { step, .. } => step,
            Talk::Live { .. } => Step::Done,
        };
        match (channel, method, step) {
            (CONNECTION, AMQPClass::Connection(method), step) => self.on_connection(method, step),
            // What they open is waited for in the answer to what follows.
            (INWARD | OUTWARD, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)), _) => Ok(()),
            (
                INWARD | OUTWARD,
                AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active })),
                _,
            ) => {
                self.say(channel, methods::flow_ok(active));
                Ok(())
            }
            (
                INWARD,
                AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)),
                Step::Exchange { .. },
            ) => {
                self.say(INWARD, methods::declare_queue());
                self.go_on(Step::Queue);
                Ok(())
            }
            (INWARD, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(answer)), Step::Queue) => {
                let queue: String = answer.queue.into();
                self.say(INWARD, methods::consume(&queue));
                self.queue = Some(queue);
                self.go_on(Step::Consumer);
                self.send_changes();
                Ok(())
            }
            (INWARD, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)), Step::Consumer) => {
                self.go_on(Step::Done);
                self.become_live(now);
                Ok(())
            }
            (
                INWARD,
                AMQPClass::Queue(queue::AMQPMethod::BindOk(_) | queue::AMQPMethod::UnbindOk(_)),
                _,
            ) if self.bindings.on_answer().is_some() => {
                self.send_changes();
                Ok(())
            }
            (INWARD, AMQPClass::Basic(basic::AMQPMethod::Cancel(_)), _) => {
                Err(SessionError::Cancelled)
            }
            (OUTWARD, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)), _) => {
                if let Talk::Greeting { confirms, .. } = &mut self.talk {
                    *confirms = true;
                    self.become_live(now);
                }
                Ok(())
            }
            (OUTWARD, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)), _) => {
                self.confirms
                    .on_confirm(ack.delivery_tag, ack.multiple, &Ok(()));
                Ok(())
            }
            (OUTWARD, AMQPClass::Basic(basic::AMQPMethod::Nack(nack)), _) => {
                let words = "the broker could not take the message".to_owned();
                let refused = Err(Unanswered::Refused(words));
                self.confirms
                    .on_confirm(nack.delivery_tag, nack.multiple, &refused);
                Ok(())
            }
            (_, method, _) => Err(SessionError::out_of_turn(&method)),
        }
    }

    fn on_connection(
        &mut self,
        method: connection::AMQPMethod,
        step: Step,
    ) -> Result<(), SessionError> {
        match (method, step) {
            (connection::AMQPMethod::Tune(tune), Step::Tune) => self.on_tune(tune),
            (connection::AMQPMethod::Secure(_), Step::Tune) => {
                let words = "a login that takes more than a name and a password".to_owned();
                Err(SessionError::Unfit(words))
            }
            (connection::AMQPMethod::OpenOk(_), Step::Open) => {
                self.open_inward(true);
                self.open_outward();
                Ok(())
            }
            (connection::AMQPMethod::Blocked(blocked), _) => {
                let reason = self.words(blocked.reason.as_str());
                let line = format!("amqp: {} does not accept messages: {reason}", self.place);
                self.dialer.log(Level::Warn, line);
                self.blocked = Some(reason);
                Ok(())
            }
            (connection::AMQPMethod::Unblocked(_), _) => {
                if self.blocked.take().is_some() {
                    let line = format!("amqp: {} accepts messages again", self.place);
                    self.dialer.log(Level::Info, line);
                }
                Ok(())
            }
            (method, _) => Err(SessionError::out_of_turn(&AMQPClass::Connection(method))),
        }
    }

    /// Agrees to the smaller of what both sides want, zero being no wish, and names the virtual host.
    fn on_tune(&mut self, tune: connection::Tune) -> Result<(), SessionError> {
        let frame_max = match tune.frame_max as usize {
            0 => limits::AMQP_FRAME_BYTES_MAX,
            wanted => wanted.min(limits::AMQP_FRAME_BYTES_MAX),
        };
        if frame_max < limits::AMQP_FRAME_BYTES_MIN {
            let words = format!("frames of {frame_max} bytes at most, which are too small");
            return Err(SessionError::Unfit(words));
        }
        if matches!(tune.channel_max, 1..OUTWARD) {
            let words = "a single channel, where two are needed".to_owned();
            return Err(SessionError::Unfit(words));
        }
        let heartbeat = match tune.heartbeat {
            0 => limits::AMQP_HEARTBEAT_SEC,
            wanted => wanted.min(limits::AMQP_HEARTBEAT_SEC),
        };
        self.frame_max = frame_max;
        self.heartbeat = Duration::from_secs(u64::from(heartbeat));
        self.decoder.agree(frame_max);
        let agreed = methods::tune_ok(OUTWARD, frame_max as u32, heartbeat);
        self.say(CONNECTION, agreed);
        self.say(CONNECTION, methods::open(&self.endpoint.vhost));
        self.go_on(Step::Open);
        Ok(())
    }

    fn open_inward(&mut self, is_passive: bool) {
        self.say(INWARD, methods::open_channel());
        let declare = methods::declare_exchange(&self.endpoint, is_passive);
        self.say(INWARD, declare);
        self.go_on(Step::Exchange { is_passive });
    }

    fn open_outward(&mut self) {
        self.say(OUTWARD, methods::open_channel());
        self.say(OUTWARD, methods::select_confirms());
    }

    fn on_close(&mut self, channel: u16, closing: Closing) -> Result<(), SessionError> {
        let closing = Closing {
            text: self.words(&closing.text),
            ..closing
        };
        let is_asking = matches!(
            self.talk,
            Talk::Greeting {
                step: Step::Exchange { is_passive: true },
                ..
            }
        );
        match channel {
            INWARD if is_asking && closing.code == NOT_FOUND => {
                self.say(INWARD, methods::close_channel_ok());
                self.open_inward(false);
                Ok(())
            }
            INWARD => {
                self.note_refused_bind(&closing);
                Err(SessionError::Closed(closing))
            }
            // What was published has been refused, such as for want of a right. Where the exchange is gone, so are
            // its bindings: all has to be made anew.
            OUTWARD if self.confirms.len() > 0 && closing.code != NOT_FOUND => {
                self.log_refusal(&closing);
                self.confirms
                    .start_again(&Unanswered::Refused(closing.to_string()));
                self.contents[1] = Content::None;
                self.say(OUTWARD, methods::close_channel_ok());
                self.open_outward();
                Ok(())
            }
            _ => Err(SessionError::Closed(closing)),
        }
    }

    /// A channel that we have no right to must not keep us from the others for ever.
    fn note_refused_bind(&mut self, closing: &Closing) {
        if (closing.code, closing.method) == (ACCESS_REFUSED, BIND)
            && let Some(key) = self.bindings.on_refused()
        {
            let (place, key) = (&self.place, shown(&key));
            let line = format!("amqp: {place} refused to bind {key:?}: {closing}");
            self.dialer.log(Level::Warn, line);
        }
    }

    /// Says that the broker refuses messages, once for each connection.
    fn log_refusal(&mut self, closing: &Closing) {
        if !std::mem::replace(&mut self.logged[0], true) {
            let line = format!("amqp: {} refuses a message: {closing}", self.place);
            self.dialer.log(Level::Warn, line);
        }
    }

    fn go_on(&mut self, next: Step) {
        if let Talk::Greeting { step, .. } = &mut self.talk {
            *step = next;
        }
    }

    fn become_live(&mut self, now: Time) {
        let Talk::Greeting {
            step: Step::Done,
            confirms: true,
            ..
        } = self.talk
        else {
            return;
        };
        let after = self.health.on_live(now);
        let line = format!("amqp: listening at {}{after}", self.place);
        self.dialer.log(Level::Info, line);
        self.talk = Talk::Live {
            beat_at: now + self.heartbeat / 2,
            lost_at: now + 2 * self.heartbeat,
        };
    }
}
