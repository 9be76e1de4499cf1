//! The feed: what brings messages. It owns how each kind of it is read, asked and left alone; it must not look into
//! a message.

use super::Reactor;
use crate::broker::demo::Demo;
use crate::broker::link::Link;
use crate::broker::redis::{Question, Session};
use crate::limits;
use crate::net::{Net, Token};
use crate::time::Time;

/// What feeds us.
pub enum Feed {
    /// A Redis server, over two connections: one that is subscribed may send nothing else.
    Redis {
        /// Where messages come from.
        messages: Box<Link<Session>>,
        /// Where commands go.
        commands: Box<Link<Session>>,
    },
    /// The embedded feeder.
    Demo(Box<Demo>),
    /// Nothing: what is published here is all there is.
    Embedded,
}

impl Feed {
    /// The two connections of these sessions.
    pub fn redis(messages: Session, commands: Session) -> Feed {
        Feed::Redis {
            messages: Box::new(Link::new(0, messages)),
            commands: Box::new(Link::new(1, commands)),
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Takes what the source has for us, unless it may be left alone.
    pub(super) fn receive(&mut self, now: Time) {
        let rest_until = self.engine.rest_until();
        let is_resting = rest_until.is_some_and(|at| at > now);
        match &mut self.feed {
            Feed::Embedded => {}
            Feed::Demo(_) if is_resting => {}
            Feed::Demo(demo) => {
                while self.engine.wants_messages()
                    && let Some(message) = demo.next_message(now)
                {
                    self.engine.on_message(&message);
                }
            }
            Feed::Redis { messages, commands } => {
                messages.serve(&mut self.net, now);
                commands
                    .conversation_mut()
                    .follow(messages.conversation(), now);
                commands.serve(&mut self.net, now);
                if rest_until.is_some() && !is_resting {
                    // Nobody has told us that it is readable.
                    messages.on_ready(true, false);
                }
                for _ in 0..limits::SOURCE_READS_PER_TURN {
                    if is_resting || !self.engine.wants_messages() {
                        break;
                    }
                    let Some(len) = messages.read(&mut self.net, &mut self.buffer, now) else {
                        break;
                    };
                    let mut input = &self.buffer[..len];
                    while let Some(message) =
                        messages.conversation_mut().next_message(&mut input, now)
                    {
                        self.engine.on_message(&message);
                    }
                }
                for _ in 0..limits::SOURCE_READS_PER_TURN {
                    let Some(len) = commands.read(&mut self.net, &mut self.buffer, now) else {
                        break;
                    };
                    let mut input = &self.buffer[..len];
                    while commands
                        .conversation_mut()
                        .next_message(&mut input, now)
                        .is_some()
                    {}
                }
                // A connection that ended just now is to be given up at once.
                messages.serve(&mut self.net, now);
                commands.serve(&mut self.net, now);
                if messages.is_readable() || !messages.conversation().is_live() {
                    self.engine.end_rest();
                }
                if !self.exchange.is_there() {
                    let session = messages.conversation();
                    self.engine
                        .on_source_state(session.is_live(), session.unanswered());
                }
            }
        }
        while let Feed::Redis { commands, .. } = &mut self.feed
            && let Some((question, answer)) = commands.conversation_mut().poll_answer()
        {
            match question {
                Question::Publication(number) => self.on_published(number, answer.map(|_| ())),
                Question::Report(subject) => self.on_answer(subject, answer),
            }
        }
    }

    /// Asks for a channel, or for all that a pattern matches, where channels come from.
    pub(super) fn listen(&mut self, name: &[u8], is_pattern: bool) {
        match &mut self.feed {
            _ if self.exchange.is_there() => self.exchange.listen(name, is_pattern),
            Feed::Redis { messages, .. } => messages.conversation_mut().listen(name, is_pattern),
            Feed::Demo(_) | Feed::Embedded => {}
        }
    }

    /// Asks for it no longer.
    pub(super) fn unlisten(&mut self, name: &[u8], is_pattern: bool) {
        match &mut self.feed {
            _ if self.exchange.is_there() => self.exchange.unlisten(name),
            Feed::Redis { messages, .. } => messages.conversation_mut().unlisten(name, is_pattern),
            Feed::Demo(_) | Feed::Embedded => {}
        }
    }

    pub(super) fn link_of(&mut self, token: Token) -> Option<&mut Link<Session>> {
        match &mut self.feed {
            Feed::Redis { messages, commands } => [messages, commands]
                .into_iter()
                .find(|link| link.token() == token)
                .map(Box::as_mut),
            Feed::Demo(_) | Feed::Embedded => None,
        }
    }

    /// Has a command sent to the broker at the end of the turn; whether there is one to take it.
    pub(super) fn command(&mut self, arguments: &[&[u8]]) -> bool {
        let Feed::Redis { commands, .. } = &mut self.feed else {
            return false;
        };
        commands.conversation_mut().send_command(arguments)
    }

    /// Has the source's socket wake us up, or not.
    pub(super) fn rest(&mut self) {
        let is_resting = self.engine.rest_until().is_some();
        if is_resting != self.is_resting
            && let Feed::Redis { messages, .. } = &self.feed
        {
            self.net.listen_to(messages.token(), !is_resting);
        }
        self.is_resting = is_resting;
    }

    /// Sends what there is to say to the broker, all in one write for each connection.
    pub(super) fn flush_feed(&mut self) {
        self.exchange.flush(&mut self.net, self.now);
        if let Feed::Redis { messages, commands } = &mut self.feed {
            for link in [messages, commands] {
                if !link.is_settled() {
                    link.serve(&mut self.net, self.now);
                }
            }
        }
    }

    /// Whether clients should be sent here, or why not.
    pub(super) fn readiness(&self) -> Result<(), &'static str> {
        match &self.feed {
            _ if self.stop_at.is_some() => Err("stopping"),
            _ if !self.exchange.is_live() => Err("no broker"),
            Feed::Redis { messages, .. } if !messages.conversation().is_live() => Err("no source"),
            Feed::Redis { .. } | Feed::Demo(_) | Feed::Embedded => Ok(()),
        }
    }
}
