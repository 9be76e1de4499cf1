//! The handshake: what is agreed with a broker before messages flow. It owns the order of its steps and judges what the
//! broker offers; it does not know subscriptions or publications.

use std::time::Duration;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod as Basic;
use amq_protocol::protocol::channel::AMQPMethod as Channel;
use amq_protocol::protocol::confirm::AMQPMethod as Confirm;
use amq_protocol::protocol::connection::{AMQPMethod as Connection, Tune};
use amq_protocol::protocol::exchange::AMQPMethod as Exchange;
use amq_protocol::protocol::queue::AMQPMethod as Queue;

use super::codec::{FrameError, encode_method};
use super::{Endpoint, methods};
use crate::broker::link::Failure;
use crate::broker::shown;
use crate::limits;

/// The channel that stands for the connection itself.
pub(super) const CONNECTION: u16 = 0;
/// The channel over which messages are received.
pub(super) const INWARD: u16 = 1;
/// The channel over which messages are published. The broker closes the channel of a message that it refuses, which
/// must not take the consumer away.
pub(super) const OUTWARD: u16 = 2;

/// How far the agreement has come.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    step: Step,
    /// Whether the broker confirms what is published.
    has_confirms: bool,
    heartbeat: Duration,
}

/// What the broker is expected to send next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Start,
    Tune,
    Open,
    /// Whether the exchange exists (passive), or that it was declared.
    Exchange {
        is_passive: bool,
    },
    Queue,
    Consumer,
    Done,
}

/// What an answer of the broker has settled.
pub(super) enum Agreed {
    /// Nothing of interest to others.
    Nothing,
    /// The size of the largest frame.
    FrameMax(usize),
    /// The name of our queue.
    Queue(String),
    /// Everything that messages need.
    Everything,
}

impl Handshake {
    /// The first method of the broker: logs in, if it supports our way to do so.
    pub(super) fn handle_start(
        &mut self,
        version: (u8, u8),
        mechanisms: &str,
    ) -> Result<(), Failure> {
        if self.step != Step::Start {
            return Err(Failure::Unexpected("connection.start".to_owned()));
        }
        if version != (0, 9) {
            return Err(Failure::Protocol(FrameError::OtherVersion.to_string()));
        }
        if !mechanisms.split(' ').any(|name| name == "PLAIN") {
            let offered = shown(mechanisms);
            let text = format!("the login mechanisms {offered:?}, but not PLAIN");
            return Err(Failure::Unsupported(text));
        }
        self.step = Step::Tune;
        Ok(())
    }

    /// Any further method of the handshake; what is to be sent next is appended to `out`.
    pub(super) fn handle_method(
        &mut self,
        channel: u16,
        method: AMQPClass,
        endpoint: &Endpoint,
        out: &mut Vec<u8>,
    ) -> Result<Agreed, Failure> {
        match (channel, method, self.step) {
            // A channel's opening is answered before what is sent over it next, whose answer is waited for.
            (INWARD | OUTWARD, AMQPClass::Channel(Channel::OpenOk(_)), _) => {}
            (CONNECTION, AMQPClass::Connection(Connection::Tune(tune)), Step::Tune) => {
                return self.handle_tune(&tune, endpoint, out);
            }
            (CONNECTION, AMQPClass::Connection(Connection::Secure(_)), Step::Tune) => {
                let text = "a login that takes more than a name and a password";
                return Err(Failure::Unsupported(text.to_owned()));
            }
            (CONNECTION, AMQPClass::Connection(Connection::OpenOk(_)), Step::Open) => {
                self.open_inward(true, endpoint, out);
                open_outward(out);
            }
            (INWARD, AMQPClass::Exchange(Exchange::DeclareOk(_)), Step::Exchange { .. }) => {
                encode_method(out, INWARD, methods::declare_queue());
                self.step = Step::Queue;
            }
            (INWARD, AMQPClass::Queue(Queue::DeclareOk(answer)), Step::Queue) => {
                let queue: String = answer.queue.into();
                encode_method(out, INWARD, methods::consume(&queue));
                self.step = Step::Consumer;
                return Ok(Agreed::Queue(queue));
            }
            (INWARD, AMQPClass::Basic(Basic::ConsumeOk(_)), Step::Consumer) => {
                self.step = Step::Done;
            }
            (OUTWARD, AMQPClass::Confirm(Confirm::SelectOk(_)), _) => {
                self.has_confirms = true;
            }
            (_, method, _) => return Err(unexpected(&method)),
        }
        match self.step == Step::Done && self.has_confirms {
            true => Ok(Agreed::Everything),
            false => Ok(Agreed::Nothing),
        }
    }

    /// The broker has closed [`INWARD`] because something does not exist. If that is the exchange, it is declared; false
    /// if it is anything else.
    pub(super) fn handle_not_found(&mut self, endpoint: &Endpoint, out: &mut Vec<u8>) -> bool {
        let is_exchange = self.step == Step::Exchange { is_passive: true };
        if is_exchange {
            encode_method(out, INWARD, methods::close_channel_ok());
            self.open_inward(false, endpoint, out);
        }
        is_exchange
    }

    /// The interval of heartbeats that was agreed.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Agrees to the smaller of both sides' limits, where zero means none, and names the virtual host.
    fn handle_tune(
        &mut self,
        tune: &Tune,
        endpoint: &Endpoint,
        out: &mut Vec<u8>,
    ) -> Result<Agreed, Failure> {
        let (frame_max, heartbeat) = (limits::AMQP_FRAME_BYTES_MAX, limits::AMQP_HEARTBEAT_SEC);
        let frame_max = match tune.frame_max as usize {
            0 => frame_max,
            wanted => wanted.min(frame_max),
        };
        let heartbeat = match tune.heartbeat {
            0 => heartbeat,
            wanted => wanted.min(heartbeat),
        };
        if frame_max < limits::AMQP_FRAME_BYTES_MIN {
            let least = limits::AMQP_FRAME_BYTES_MIN;
            let text = format!("frames of at most {frame_max} bytes, but {least} are needed");
            return Err(Failure::Unsupported(text));
        }
        if matches!(tune.channel_max, 1..OUTWARD) {
            let text = "only one channel per connection, but two are needed".to_owned();
            return Err(Failure::Unsupported(text));
        }
        self.heartbeat = Duration::from_secs(u64::from(heartbeat));
        let agreed = methods::tune_ok(OUTWARD, frame_max as u32, heartbeat);
        encode_method(out, CONNECTION, agreed);
        encode_method(out, CONNECTION, methods::open(&endpoint.vhost));
        self.step = Step::Open;
        Ok(Agreed::FrameMax(frame_max))
    }

    fn open_inward(&mut self, is_passive: bool, endpoint: &Endpoint, out: &mut Vec<u8>) {
        encode_method(out, INWARD, methods::open_channel());
        let declare = methods::declare_exchange(endpoint, is_passive);
        encode_method(out, INWARD, declare);
        self.step = Step::Exchange { is_passive };
    }
}

/// Opens [`OUTWARD`], also after the broker has closed it.
pub(super) fn open_outward(out: &mut Vec<u8>) {
    encode_method(out, OUTWARD, methods::open_channel());
    encode_method(out, OUTWARD, methods::select_confirms());
}

/// An unexpected method, by the names of its class and method.
pub(super) fn unexpected(method: &AMQPClass) -> Failure {
    let shown = format!("{method:?}");
    let names = shown.split(|letter: char| !letter.is_ascii_alphanumeric());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).take(2).collect();
    Failure::Unexpected(names.join(".").to_ascii_lowercase())
}
