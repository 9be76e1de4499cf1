//! The oracle of the emoji streams. It owns the judgement; it must not know how an event is encoded.
//!
//! **What a client must have received.** The broker keeps a list of the messages whose last byte the server has read
//! (`Broker::delivered`): these have certainly reached it, and in this order. Of those that a stream is made of, a
//! client must have received a run without a gap: the first message at or after its request, the last one when it
//! left. An event of `eps` must be the count of each id in the next part of such a run. Where the stream begins is
//! known only to lie between the moment at which the request was sent and that at which the first byte of the answer
//! came, so each start between the two is tried.
//!
//! **How far the run must reach.** To the end of the list, if the client read what there was, did not leave and was not
//! closed. Of everybody else only the beginning and the lack of gaps are judged. A client that the server sends away
//! at the end of a lifetime, and that comes back with an id, goes on with its run: nothing twice, nothing left out.
//!
//! **Gaps.** Where events have positions, a client is told of messages that the server dropped and of absences of the broker,
//! once each at most. Such an event does not interrupt the run, because the list does not have these messages.
//!
//! **What it may not be judged on.** Which updates share an event of `eps` (that is a matter of time), how the events of
//! sums and those with names are interleaved on one connection, where the network cut the bytes, and whether a
//! client that takes little at a time has taken everything yet. Clients that are always there and take everything
//! at once are also judged on silence (a comment must come in time) and on being left alone.

use std::time::Duration;

use emojitrack_streamer::time::Time;

use crate::broker::Delivered;
use crate::client::{Client, Leaving, Reading, Wish};
use crate::plain_requests::DEPENDS;
use crate::receiver::{Event, joined_lines};
use crate::server::KEEPALIVE;
use crate::steps::brief;
use crate::sums::{Counts, counts_of, end_of_run};

/// What one client is judged by.
pub struct Judge<'a> {
    client: &'a Client,
    delivered: &'a [Delivered],
    /// How many messages the server dropped and how often the broker was away, if clients are told.
    gaps_max: Option<u64>,
    /// Whether the server has closed its connection.
    closed: bool,
    now: Time,
    /// Who it is, for what is said of a failure.
    context: String,
}

impl<'a> Judge<'a> {
    pub fn new(
        client: &'a Client,
        delivered: &'a [Delivered],
        gaps_max: Option<u64>,
        closed: bool,
        now: Time,
    ) -> Judge<'a> {
        let (wish, reading, leaving) = (&client.wish, client.reading, client.leaving);
        let context = format!(
            "{wish:?} {reading:?} {leaving:?} from {:?}",
            client.starts_at
        );
        Judge {
            client,
            delivered,
            gaps_max,
            closed,
            now,
            context,
        }
    }

    fn is_stream(&self) -> bool {
        matches!(
            self.client.wish,
            Wish::Raw
                | Wish::Eps
                | Wish::Details
                | Wish::Detail(_)
                | Wish::Kiosk
                | Wish::Several(..)
                | Wish::EpsAnd(_)
        )
    }

    /// Judges all that the client received; panics where it is not what the client must have received.
    pub fn judge(&self) {
        let (closed, context) = (self.closed, &self.context);
        match &self.client.wish {
            Wish::Requests(statuses, ends) if self.client.is_reliable() => {
                let got = self.client.receiver.statuses();
                let fits = |(got, wanted): (&u16, &u16)| match *wanted {
                    DEPENDS => [200, 503].contains(got),
                    wanted => *got == wanted,
                };
                let fit = got.len() == statuses.len() && got.iter().zip(statuses).all(fits);
                assert!(fit, "{context}: {got:?}");
                // The broker answers every command that reaches it.
                let silence = b"redis does not answer";
                let replies = &self.client.receiver.replies;
                let waited = replies.iter().any(|reply| {
                    reply
                        .body
                        .windows(silence.len())
                        .any(|words| words == silence)
                });
                assert!(!waited, "{context} waited in vain for the broker");
                // Those that are kept alive have been given up for want of a further request.
                assert!(closed, "{context} is still connected, ends: {ends}");
            }
            Wish::EndlessHead if self.client.is_reliable() => {
                let got = self.client.receiver.statuses();
                assert_eq!(got, [408], "{context}");
                assert!(closed, "{context} holds a slot");
            }
            Wish::Silence if self.client.is_reliable() => {
                assert!(
                    closed && self.client.receiver.replies.is_empty(),
                    "{context} holds a slot"
                );
            }
            _ if self.is_stream() => self.check_stream(),
            _ => {}
        }
    }

    fn check_stream(&self) {
        let (delivered, closed, context) = (self.delivered, self.closed, &self.context);
        if self.client.is_reliable() {
            assert!(!closed || self.client.comes_back, "{context} was closed");
            let between = self.client.comebacks > 0;
            assert!(
                self.client.receiver.streaming || between,
                "{context} got no stream"
            );
            let forgot =
                closed || self.gaps_max.is_some() || self.client.receiver.last_event_id.is_empty();
            assert!(
                forgot || !self.client.receiver.streaming,
                "{context} was not told to forget its id"
            );
            let slack = Duration::from_millis(200);
            let since = if self.client.received_at == Time::ZERO {
                self.now
            } else {
                self.client.received_at
            };
            let silence = self.client.silence_max.max(self.now.since(since));
            assert!(
                silence <= KEEPALIVE + slack,
                "{context}: nothing came for {silence:?}"
            );
        }
        let gives_up = matches!(self.client.reading, Reading::Vanishes(_));
        let stayed = self.client.leaving == Leaving::Stays;
        if let (Some((_, receiver)), Leaving::CleansUp(_)) =
            (&self.client.cleanup, self.client.leaving)
        {
            assert_eq!(receiver.statuses(), [200], "{context}: the cleanup");
            // A stream that is already being ended by force, but does not take its end, waits for that.
            let is_stuck = self.client.comes_back && self.client.reading != Reading::Fast;
            assert!(closed || is_stuck, "{context} was not cleaned up");
        }
        assert!(
            !closed
                || self.client.comes_back
                || gives_up
                || !stayed
                || self.client.reading != Reading::Fast,
            "{context} was closed"
        );
        let (Some((asked_at, asked)), Some((_, answered))) =
            (self.client.asked_at, self.client.answered_at)
        else {
            return;
        };
        let is_sum = |message: &Delivered| {
            let sums_up = matches!(self.client.wish, Wish::Eps | Wish::EpsAnd(_));
            sums_up && message.channel == "stream.score_updates"
        };
        // Sums stand in events without a name, whatever else comes over the connection.
        let sums_up = matches!(self.client.wish, Wish::Eps | Wish::EpsAnd(_));
        let (gaps, events): (Vec<&Event>, Vec<&Event>) =
            self.client.events().partition(|event| event.name == "gap");
        assert!(
            gaps.len() as u64 <= self.gaps_max.unwrap_or(0),
            "{context}: {} gaps",
            gaps.len()
        );
        let (unnamed, named): (Vec<&Event>, Vec<&Event>) = events
            .into_iter()
            .partition(|event| sums_up && event.name.is_empty());
        let part = |of_sums: bool| {
            let is_in = |message: &&Delivered| self.wants(message) && is_sum(message) == of_sums;
            let wanted: Vec<&Delivered> = delivered.iter().filter(is_in).collect();
            let count_before = |end: usize| delivered[..end].iter().filter(is_in).count();
            (wanted, count_before(asked), count_before(answered))
        };
        if sums_up {
            let (wanted, first, last) = part(true);
            // The first tick may hold what was counted just before.
            let tick_began = asked_at - Duration::from_millis(18);
            let early = wanted.iter().position(|message| message.at >= tick_began);
            let first = early.unwrap_or(first).min(first);
            self.check_sums(&unnamed, &wanted, first, last);
        }
        if self.client.wish != Wish::Eps {
            let (wanted, first, last) = part(false);
            self.check_sequence(&named, &wanted, first, last);
        }
    }

    fn wants(&self, message: &Delivered) -> bool {
        match &self.client.wish {
            Wish::Raw | Wish::Eps => message.channel == "stream.score_updates",
            Wish::Details => message.channel.starts_with("stream.tweet_updates."),
            Wish::Detail(id) => message.channel.strip_prefix("stream.tweet_updates.") == Some(id),
            Wish::Kiosk => message.channel.starts_with("stream.interaction."),
            Wish::Several(one, other) => {
                let id = message.channel.strip_prefix("stream.tweet_updates.");
                message.channel == "stream.score_updates"
                    || id.is_some_and(|id| id == *one || id == *other)
            }
            Wish::EpsAnd(id) => {
                let of = message.channel.strip_prefix("stream.tweet_updates.");
                message.channel == "stream.score_updates" || of == Some(id)
            }
            _ => false,
        }
    }

    /// The events are a run of the messages without a gap, that began between the request and its answer.
    fn check_sequence(&self, events: &[&Event], wanted: &[&Delivered], first: usize, last: usize) {
        let context = &self.context;
        let fits = |(message, event): &(&&Delivered, &&Event)| {
            let is_score = message.channel == "stream.score_updates";
            let named = match is_score {
                true => event.name.is_empty() || event.name == "message",
                false => event.name == message.channel,
            };
            named && event.data == joined_lines(&message.payload)
        };
        let fitting = |start: usize| wanted[start..].iter().zip(events).take_while(fits).count();
        let starts: Vec<(usize, usize)> = (first..=last).map(|at| (fitting(at), at)).collect();
        let (fitting, start) = starts.iter().copied().max().unwrap_or_default();
        let count = events.len();
        assert!(
            fitting == count,
            "{context}: {count} events are no run of {} messages that begins between {first} and {last}; from {start} on, \
             event {fitting} is wrong\n  expected {}\n  came     {}",
            wanted.len(),
            brief(&wanted.get(start + fitting)),
            brief(&events.get(fitting)),
        );
        if self.is_there_to_the_end() {
            let is_whole = |&(fitting, start): &(usize, usize)| {
                fitting == count && start + fitting == wanted.len()
            };
            assert!(
                starts.iter().any(is_whole),
                "{context}: {count} events from {start} end before {}\n  expected {}",
                wanted.len(),
                brief(&wanted.get(start + count)),
            );
        }
    }

    /// The sums are those of a run of the messages without a gap.
    fn check_sums(&self, events: &[&Event], wanted: &[&Delivered], first: usize, last: usize) {
        let context = &self.context;
        let sums: Result<Vec<Counts>, String> = events.iter().map(|it| counts_of(it)).collect();
        let sums = sums.unwrap_or_else(|error| panic!("{context}: {error}"));
        let updates: Vec<&str> = wanted.iter().map(|it| it.payload.as_str()).collect();
        let ends: Vec<Result<usize, String>> = (first..=last)
            .map(|start| end_of_run(&sums, &updates, start))
            .collect();
        assert!(
            ends.iter().any(Result::is_ok),
            "{context}: the sums are of no run of {} updates that begins between {first} and {last}: {}",
            updates.len(),
            ends[0].as_ref().err().map_or("", String::as_str),
        );
        if self.is_there_to_the_end() {
            assert!(
                ends.contains(&Ok(updates.len())),
                "{context}: the sums end at {ends:?}\n  expected {}",
                updates.len()
            );
        }
    }

    fn is_there_to_the_end(&self) -> bool {
        // Who takes little at a time may still be taking it.
        let reads = match self.client.reading {
            Reading::Fast => true,
            Reading::Stalls(..) => self.client.wish == Wish::Eps || !self.client.is_narrow(),
            Reading::Vanishes(_) | Reading::Slow => false,
        };
        reads && self.client.leaving == Leaving::Stays && !self.closed
    }
}
