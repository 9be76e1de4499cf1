//! Bindings: which channels and patterns are subscribed to, and which binding keys the broker was asked for. They decide
//! which keys the type of the exchange makes necessary, and in what order they are bound; they do not know frames.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ExchangeType;

/// The binding key that matches every routing key of a topic exchange.
const EVERYTHING: &str = "#";
/// The binding key for a fanout exchange, which ignores keys.
const NO_KEY: &str = "";

/// The subscriptions, and the state of each binding key that they need.
#[derive(Debug)]
pub(super) struct Bindings {
    exchange_type: ExchangeType,
    /// The queue to bind, once the broker has named it. Until then, nothing is kept of names that come and go.
    queue: Option<String>,
    /// Channels by their names, which are routing keys.
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    /// Each binding key that the broker has, that is to change, or that is refused.
    keys: BTreeMap<String, KeyState>,
    /// Keys that may have to be bound or unbound, each once.
    due: VecDeque<String>,
    /// Requests that are not answered, in order. `None` was due behind the others, but needed no request.
    requested: VecDeque<Option<Change>>,
    /// How often a key became due since the start.
    changes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct KeyState {
    /// The last request was a bind.
    is_bound: bool,
    is_due: bool,
    /// The broker does not permit it; it is not requested again while it stays needed.
    is_refused: bool,
}

/// A bind or an unbind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) is_bind: bool,
}

impl Bindings {
    pub(super) fn new(exchange_type: ExchangeType) -> Bindings {
        Bindings {
            exchange_type,
            queue: None,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            keys: BTreeMap::new(),
            due: VecDeque::new(),
            requested: VecDeque::new(),
            changes: 0,
        }
    }

    /// Subscribes to a channel.
    pub(super) fn subscribe(&mut self, channel: &str) {
        self.channels.insert(channel.as_bytes().to_vec());
        self.update(self.channel_key(channel).to_owned());
    }

    /// Subscribes to a pattern; false if the exchange cannot serve patterns.
    pub(super) fn subscribe_pattern(&mut self, pattern: &[u8]) -> bool {
        let Some(key) = self.pattern_key() else {
            return false;
        };
        self.patterns.insert(pattern.to_vec());
        self.update(key.to_owned());
        true
    }

    /// Ends the subscription to a channel or pattern of this name.
    pub(super) fn unsubscribe(&mut self, name: &[u8]) {
        if self.patterns.remove(name)
            && let Some(key) = self.pattern_key()
        {
            self.update(key.to_owned());
        }
        if self.channels.remove(name)
            && let Ok(channel) = std::str::from_utf8(name)
        {
            self.update(self.channel_key(channel).to_owned());
        }
    }

    /// The queue exists, and can be bound: all keys that are needed become due.
    pub(super) fn handle_queue(&mut self, name: String) {
        self.queue = Some(name);
        let names = self.channels.iter().map(|it| String::from_utf8_lossy(it));
        let channels = names.map(|name| self.channel_key(&name).to_owned());
        let pattern = self.pattern_key().filter(|_| !self.patterns.is_empty());
        let keys: Vec<String> = channels.chain(pattern.map(str::to_owned)).collect();
        keys.into_iter().for_each(|key| self.update(key));
    }

    /// The broker has answered the oldest request; false if there was none.
    pub(super) fn handle_answer(&mut self) -> bool {
        let is_expected = self.requested.pop_front().is_some();
        while let Some(None) = self.requested.front() {
            self.requested.pop_front();
        }
        is_expected
    }

    /// The broker has refused the oldest request and closes the channel; the key, if it was a bind.
    pub(super) fn handle_refusal(&mut self) -> Option<String> {
        let change = self.requested.pop_front()??;
        self.keys.get_mut(&change.key)?.is_refused = change.is_bind;
        change.is_bind.then_some(change.key)
    }

    /// The connection is lost, and its queue with it. Of its keys, those remain that are refused and still needed.
    pub(super) fn reset(&mut self) {
        self.queue = None;
        self.due.clear();
        self.requested.clear();
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|key, state| {
            (state.is_bound, state.is_due) = (false, false);
            state.is_refused && self.needs(key)
        });
        self.keys = keys;
    }

    /// The next change to request, and the queue that it is for.
    pub(super) fn next_change(&mut self) -> Option<(&str, &Change)> {
        self.queue.as_ref()?;
        while let Some(key) = self.due.pop_front() {
            let is_bind = self.needs(&key);
            let state = KeyState {
                is_bound: is_bind,
                ..KeyState::default()
            };
            let was_bound = match is_bind {
                true => self.keys.insert(key.clone(), state),
                false => self.keys.remove(&key),
            };
            if was_bound.is_some_and(|state| state.is_bound) != is_bind {
                self.requested.push_back(Some(Change { key, is_bind }));
                let change = self.requested.back()?.as_ref()?;
                return Some((self.queue.as_deref()?, change));
            }
            if !self.requested.is_empty() {
                self.requested.push_back(None);
            }
        }
        None
    }

    /// Whether anybody may want a message of this channel. The server matches patterns.
    pub(super) fn may_want(&self, channel: &[u8]) -> bool {
        !self.patterns.is_empty() || self.channels.contains(channel)
    }

    /// The number of changes that are not answered, or not even requested.
    pub(super) fn unsettled(&self) -> usize {
        self.due.len() + self.requested.len()
    }

    /// The number of the last change that was wanted.
    pub(super) fn last_change(&self) -> u64 {
        self.changes
    }

    /// The number up to which all changes are answered.
    pub(super) fn settled_change(&self) -> u64 {
        self.changes - self.unsettled() as u64
    }

    /// The binding key for a channel. On a topic exchange, a name with `*` or `#` also matches other channels, whose
    /// messages are dropped when they arrive.
    fn channel_key<'a>(&self, channel: &'a str) -> &'a str {
        match self.exchange_type {
            ExchangeType::Direct | ExchangeType::Topic => channel,
            ExchangeType::Fanout => NO_KEY,
        }
    }

    fn pattern_key(&self) -> Option<&'static str> {
        match self.exchange_type {
            ExchangeType::Direct => None,
            ExchangeType::Fanout => Some(NO_KEY),
            ExchangeType::Topic => Some(EVERYTHING),
        }
    }

    fn needs(&self, key: &str) -> bool {
        let is_fanout = self.exchange_type == ExchangeType::Fanout;
        (is_fanout && !self.channels.is_empty())
            || self.channels.contains(key.as_bytes())
            || (!self.patterns.is_empty() && self.pattern_key() == Some(key))
    }

    /// Makes a key due if its state at the broker is not what is needed, and the broker can be asked for that.
    fn update(&mut self, key: String) {
        let is_needed = self.needs(&key);
        let state = self.keys.entry(key.clone()).or_default();
        state.is_refused &= is_needed;
        if state.is_due || state.is_refused {
            return;
        }
        if state.is_bound != is_needed && self.queue.is_some() {
            state.is_due = true;
            self.due.push_back(key);
            self.changes += 1;
        } else if !state.is_bound {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All changes that are requested next, as `+key` and `-key`.
    fn changes(bindings: &mut Bindings) -> Vec<String> {
        bindings.handle_queue("queue".to_owned());
        let shown = |(_, change): (&str, &Change)| {
            let sign = if change.is_bind { '+' } else { '-' };
            format!("{sign}{}", change.key)
        };
        std::iter::from_fn(|| bindings.next_change().map(shown)).collect()
    }

    #[test]
    fn subscriptions_become_the_binds_that_the_exchange_needs() {
        #[rustfmt::skip]
        let table: &[(ExchangeType, &[&str], &[&str])] = &[
            // `+` subscribes to a channel, `*` to a pattern, `-` unsubscribes, `.` requests what is due.
            (ExchangeType::Direct, &["+a", "+b", "+a"], &["+a", "+b"]),
            (ExchangeType::Direct, &["+a", "-a"], &[]),
            (ExchangeType::Direct, &["+a", ".", "-a"], &["+a", "-a"]),
            (ExchangeType::Direct, &["+a", ".", "-a", "+a"], &["+a"]),
            (ExchangeType::Direct, &["+a", ".", "-a", ".", "+a"], &["+a", "-a", "+a"]),
            (ExchangeType::Direct, &["-a", "*a*", "-a*"], &[]),
            (ExchangeType::Direct, &["+#", "+a.*"], &["+#", "+a.*"]),
            (ExchangeType::Fanout, &["+a", "+b", ".", "-a"], &["+"]),
            (ExchangeType::Fanout, &["+a", "+b", ".", "-a", "-b"], &["+", "-"]),
            (ExchangeType::Fanout, &["*a*", "+b", ".", "-b"], &["+"]),
            (ExchangeType::Topic, &["+a", "*a*", "*b*", ".", "-a*"], &["+a", "+#"]),
            (ExchangeType::Topic, &["+a", "*a*", "*b*", ".", "-a*", "-b*"], &["+a", "+#", "-#"]),
            // A channel may have the same name as the key for patterns.
            (ExchangeType::Topic, &["+#", "*a*", ".", "-a*"], &["+#"]),
            (ExchangeType::Topic, &["+#", "*a*", ".", "-#"], &["+#"]),
        ];
        for (exchange_type, steps, expected) in table {
            let mut bindings = Bindings::new(*exchange_type);
            let mut asked = Vec::new();
            for step in *steps {
                let (sign, name) = step.split_at(1);
                match sign {
                    "+" => bindings.subscribe(name),
                    "*" => {
                        let can = *exchange_type != ExchangeType::Direct;
                        assert_eq!(bindings.subscribe_pattern(name.as_bytes()), can);
                    }
                    "-" => bindings.unsubscribe(name.as_bytes()),
                    _ => asked.extend(changes(&mut bindings)),
                }
            }
            asked.extend(changes(&mut bindings));
            assert_eq!(asked, *expected, "{exchange_type} {steps:?}");
            for _ in *expected {
                assert!(bindings.handle_answer());
            }
            assert!(!bindings.handle_answer());
            assert_eq!(bindings.unsettled(), 0);
        }
    }

    #[test]
    fn a_reset_binds_what_is_subscribed_to_and_nothing_else() {
        let mut bindings = Bindings::new(ExchangeType::Direct);
        for name in ["b", "a", "gone", "going"] {
            bindings.subscribe(name);
        }
        bindings.unsubscribe(b"gone");
        assert_eq!(changes(&mut bindings), ["+a", "+b", "+going"]);
        bindings.unsubscribe(b"going");
        bindings.subscribe("c");
        bindings.reset();
        assert_eq!(changes(&mut bindings), ["+a", "+b", "+c"]);
        assert_eq!(bindings.unsettled(), 3);
        bindings.unsubscribe(b"a");
        assert_eq!(changes(&mut bindings), ["-a"]);
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_that_does_not_count_as_unsettled() {
        for exchange_type in [
            ExchangeType::Direct,
            ExchangeType::Fanout,
            ExchangeType::Topic,
        ] {
            let mut bindings = Bindings::new(exchange_type);
            let come_and_go = |bindings: &mut Bindings, round: u32| {
                for number in 0..100 {
                    let name = format!("{round}.{number}");
                    bindings.subscribe(&name);
                    bindings.subscribe_pattern(b"x*");
                    bindings.unsubscribe(b"x*");
                    bindings.unsubscribe(name.as_bytes());
                }
                let held = [
                    bindings.keys.len(),
                    bindings.due.len(),
                    bindings.requested.len(),
                ];
                (held, bindings.unsettled())
            };
            bindings.subscribe("stays");
            // There is no connection, or it is not ready.
            assert_eq!(come_and_go(&mut bindings, 0), ([0; 3], 0));
            // The broker does not answer, and what it was asked for is sent or waits.
            assert_eq!(changes(&mut bindings).len(), 1);
            for round in 1..4 {
                let ([keys, due, requested], unsettled) = come_and_go(&mut bindings, round);
                assert_eq!(due + requested, unsettled, "{exchange_type}");
                assert!(
                    keys <= 1 + unsettled,
                    "{exchange_type}: {keys} of {unsettled}"
                );
                changes(&mut bindings);
            }
            bindings.reset();
            assert_eq!(come_and_go(&mut bindings, 4), ([0; 3], 0));
        }
    }

    #[test]
    fn a_refused_channel_is_not_requested_again_while_it_is_subscribed_to() {
        let mut bindings = Bindings::new(ExchangeType::Topic);
        bindings.handle_queue("queue".to_owned());
        bindings.subscribe("secret");
        bindings.subscribe("open");
        changes(&mut bindings);
        assert_eq!(bindings.handle_refusal().as_deref(), Some("secret"));
        bindings.reset();
        bindings.subscribe("secret");
        assert_eq!(changes(&mut bindings), ["+open"]);
        bindings.unsubscribe(b"secret");
        assert_eq!(changes(&mut bindings), [""; 0]);
        bindings.subscribe("secret");
        assert_eq!(changes(&mut bindings), ["+secret"]);
    }

    #[test]
    fn messages_of_other_channels_are_dropped_unless_there_are_patterns() {
        let mut bindings = Bindings::new(ExchangeType::Topic);
        bindings.subscribe("a.*");
        assert!(bindings.may_want(b"a.*"));
        assert!(!bindings.may_want(b"a.b"), "a name is no wildcard");
        bindings.subscribe_pattern(b"x*");
        assert!(bindings.may_want(b"a.b") && bindings.may_want(b"\xff"));
        bindings.unsubscribe(b"x*");
        assert!(!bindings.may_want(b"a.b"));
    }

    #[test]
    fn changes_settle_in_order_even_if_some_need_no_request() {
        let mut bindings = Bindings::new(ExchangeType::Direct);
        bindings.handle_queue("queue".to_owned());
        bindings.subscribe("a");
        bindings.subscribe("b");
        let first = bindings.last_change();
        bindings.unsubscribe(b"b");
        assert_eq!(changes(&mut bindings), ["+a"]);
        bindings.subscribe("c");
        let second = bindings.last_change();
        assert_eq!(changes(&mut bindings), ["+c"]);
        assert!(bindings.settled_change() < first, "a is not bound yet");
        assert!(bindings.handle_answer());
        assert!((first..second).contains(&bindings.settled_change()));
        assert!(bindings.handle_answer());
        assert_eq!(bindings.settled_change(), second);
    }
}
