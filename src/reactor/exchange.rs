//! The exchange: a broker beside the feed that has the channels, where there is one. It owns telling the rest of
//! the reactor that there is none; it must not know what is published.

use std::io;
use std::net::SocketAddr;

use super::Reactor;
use crate::broker::Unanswered;
#[cfg(feature = "amqp")]
use crate::broker::amqp::Amqp;
#[cfg(feature = "amqp")]
use crate::broker::link::Link;
use crate::engine::stats::SourceState;
#[cfg(feature = "amqp")]
use crate::limits;
use crate::net::{Net, Token};
use crate::time::Time;

/// The name of its socket, among those that we connect; the feed and Graphite have those before.
#[cfg(feature = "amqp")]
const EXCHANGE: u8 = 3;

/// A broker for channels alone.
pub enum Exchange {
    /// The feed has the channels as well.
    None,
    /// One that speaks AMQP 0-9-1.
    #[cfg(feature = "amqp")]
    Amqp {
        /// The connection.
        link: Box<Link<Amqp>>,
        /// Whether everything that is wanted has been asked for since the connection stands.
        is_whole: bool,
    },
}

#[cfg_attr(not(feature = "amqp"), allow(unused_variables))]
impl Exchange {
    /// A broker that speaks AMQP 0-9-1.
    #[cfg(feature = "amqp")]
    pub fn amqp(amqp: Amqp) -> Exchange {
        Exchange::Amqp {
            link: Box::new(Link::new(EXCHANGE, amqp)),
            is_whole: false,
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        !matches!(self, Exchange::None)
    }

    /// Whether it delivers and takes messages, or need not.
    pub fn is_live(&self) -> bool {
        match self {
            Exchange::None => true,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.conversation().is_live(),
        }
    }

    /// Its state, for reports.
    pub fn state(&self, now: Time) -> Option<SourceState<'_>> {
        match self {
            Exchange::None => None,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => {
                let session = link.conversation();
                Some(SourceState {
                    kind: "amqp",
                    is_live: session.is_live(),
                    since: now.since(session.since()),
                    place: session.place(),
                    losses: session.losses(),
                })
            }
        }
    }

    /// The name of its socket.
    pub fn token(&self) -> Option<Token> {
        match self {
            Exchange::None => None,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => Some(link.token()),
        }
    }

    /// When it must be served, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        match self {
            Exchange::None => None,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.deadline(),
        }
    }

    /// Whether nothing waits to be sent that could be.
    #[cfg(debug_assertions)]
    pub fn is_settled(&self) -> bool {
        match self {
            Exchange::None => true,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.is_settled(),
        }
    }

    /// The socket's state has changed.
    pub fn on_ready(&mut self, readable: bool, writable: bool) {
        match self {
            Exchange::None => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.on_ready(readable, writable),
        }
    }

    /// The answer to a question for its name.
    pub fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        match self {
            Exchange::None => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.on_resolved(result, now),
        }
    }

    /// Asks for a channel, or for all that a pattern matches.
    pub fn listen(&mut self, name: &[u8], is_pattern: bool) {
        match self {
            Exchange::None => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.conversation_mut().listen(name, is_pattern),
        }
    }

    /// Asks for it no longer.
    pub fn unlisten(&mut self, name: &[u8]) {
        match self {
            Exchange::None => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.conversation_mut().unlisten(name),
        }
    }

    /// Whether messages of so many bytes in all would be taken at once.
    pub fn has_room_for(&self, len: usize) -> bool {
        match self {
            Exchange::None => false,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.conversation().has_room_for(len),
        }
    }

    /// Publishes a message of the publication of this number. False where it was dropped.
    pub fn publish(&mut self, number: u64, channel: &[u8], message: &[u8]) -> bool {
        match self {
            Exchange::None => false,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => {
                link.conversation_mut().publish(number, channel, message)
            }
        }
    }

    /// The next answer to what was published.
    pub fn poll_answer(&mut self) -> Option<(u64, Result<(), Unanswered>)> {
        match self {
            Exchange::None => None,
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.conversation_mut().poll_answer(),
        }
    }

    /// Sends what there is to say.
    pub fn flush<N: Net>(&mut self, net: &mut N, now: Time) {
        match self {
            Exchange::None => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } if link.is_settled() => {}
            #[cfg(feature = "amqp")]
            Exchange::Amqp { link, .. } => link.serve(net, now),
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Takes what the exchange has for us.
    pub(super) fn receive_from_exchange(&mut self) {
        #[cfg(feature = "amqp")]
        self.receive_from_amqp();
        while let Some((number, answer)) = self.exchange.poll_answer() {
            self.on_published(number, answer);
        }
    }

    #[cfg(feature = "amqp")]
    fn receive_from_amqp(&mut self) {
        let (net, engine, now) = (&mut self.net, &mut self.engine, self.now);
        let Exchange::Amqp { link, is_whole } = &mut self.exchange else {
            return;
        };
        link.serve(net, now);
        for _ in 0..limits::SOURCE_READS_PER_TURN {
            if !engine.wants_messages() {
                break;
            }
            let Some(len) = link.read(net, &mut self.buffer, now) else {
                break;
            };
            let mut input = &self.buffer[..len];
            while let Some(message) = link.conversation_mut().next_message(&mut input, now) {
                engine.on_channel_message(&message.channel, &message.payload);
            }
        }
        // A connection that ended just now is to be given up at once.
        link.serve(net, now);
        // What is asked for later is waited for by the streams that begin with it.
        let (session, unanswered) = (link.conversation(), link.conversation().unsettled());
        *is_whole = session.is_live() && (*is_whole || unanswered == 0);
        engine.on_source_state(*is_whole, unanswered);
    }
}
