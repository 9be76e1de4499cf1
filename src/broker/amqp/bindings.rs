//! Bindings: which channels and patterns are wanted, and what the broker has been told of it. It owns what an
//! exchange's type makes of a wish, and in what order wishes become binds; it must not know of frames.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ExchangeType;

/// The binding key that matches every routing key of a topic exchange.
const EVERYTHING: &str = "#";
/// The binding key of a fanout exchange, which looks at none.
const NO_KEY: &str = "";

/// What is wanted, and how far the broker has heard of it.
#[derive(Debug)]
pub(super) struct Bindings {
    exchange_type: ExchangeType,
    /// Channels by their names, which are routing keys.
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    /// What is known of each binding key that is needed, or that the broker still has.
    keys: BTreeMap<String, Standing>,
    /// Keys whose standing is to be changed, each once.
    due: VecDeque<String>,
    /// Changes that were asked for and not answered, in order.
    unanswered: VecDeque<Change>,
    /// How many changes were asked for since the start.
    asked: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The last that was asked for is a bind.
    is_bound: bool,
    is_due: bool,
    /// The broker does not allow it; nothing is asked again as long as it is wanted.
    is_refused: bool,
}

/// A bind or an unbind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) is_bind: bool,
}

impl Bindings {
    pub(super) fn new(exchange_type: ExchangeType) -> Bindings {
        Bindings {
            exchange_type,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            keys: BTreeMap::new(),
            due: VecDeque::new(),
            unanswered: VecDeque::new(),
            asked: 0,
        }
    }

    /// A channel is wanted.
    pub(super) fn want(&mut self, channel: &str) {
        self.channels.insert(channel.as_bytes().to_vec());
        self.look_at(self.key_of(channel));
    }

    /// A pattern is wanted; false where the exchange cannot serve one.
    pub(super) fn want_pattern(&mut self, pattern: &[u8]) -> bool {
        let Some(key) = self.key_of_patterns() else {
            return false;
        };
        self.patterns.insert(pattern.to_vec());
        self.look_at(key);
        true
    }

    /// A channel or a pattern of that name is not wanted any more.
    pub(super) fn forgo(&mut self, name: &[u8]) {
        if self.patterns.remove(name)
            && let Some(key) = self.key_of_patterns()
        {
            self.look_at(key);
        }
        if self.channels.remove(name)
            && let Ok(channel) = std::str::from_utf8(name)
        {
            self.look_at(self.key_of(channel));
        }
    }

    /// Whether anybody may want a message of that channel. Where patterns are wanted that is for others to say.
    pub(super) fn may_want(&self, channel: &[u8]) -> bool {
        !self.patterns.is_empty() || self.channels.contains(channel)
    }

    /// How many changes have not been asked for, or not been answered.
    pub(super) fn unsettled(&self) -> usize {
        self.due.len() + self.unanswered.len()
    }

    /// How many changes were asked for since the start; none while others are still to be asked for.
    pub(super) fn asked(&self) -> Option<u64> {
        self.due.is_empty().then_some(self.asked)
    }

    /// How many of them are answered, or never will be.
    pub(super) fn answered(&self) -> u64 {
        self.asked - self.unanswered.len() as u64
    }

    /// The next change that the broker is to be asked for.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        while let Some(key) = self.due.pop_front() {
            let is_needed = self.needs(&key);
            let Some(standing) = self.keys.get_mut(&key) else {
                continue;
            };
            standing.is_due = false;
            let is_changed = standing.is_bound != is_needed;
            standing.is_bound = is_needed;
            if !is_needed {
                self.keys.remove(&key);
            }
            if is_changed {
                let change = Change {
                    key,
                    is_bind: is_needed,
                };
                self.unanswered.push_back(change.clone());
                self.asked += 1;
                return Some(change);
            }
        }
        None
    }

    /// The broker has answered the oldest change; which was it?
    pub(super) fn on_answer(&mut self) -> Option<Change> {
        self.unanswered.pop_front()
    }

    /// The broker has refused the oldest change, which ends the conversation; the key of a bind.
    pub(super) fn on_refused(&mut self) -> Option<String> {
        let key = self
            .unanswered
            .pop_front()
            .filter(|change| change.is_bind)?;
        let standing = self.keys.get_mut(&key.key)?;
        standing.is_refused = true;
        Some(key.key)
    }

    /// The broker knows nothing any more; all that is wanted is due again.
    pub(super) fn start_again(&mut self) {
        self.due.clear();
        self.unanswered.clear();
        let keys = std::mem::take(&mut self.keys);
        for (key, standing) in keys {
            if !self.needs(&key) {
                continue;
            }
            let is_due = !standing.is_refused;
            if is_due {
                self.due.push_back(key.clone());
            }
            let standing = Standing {
                is_bound: false,
                is_due,
                ..standing
            };
            self.keys.insert(key, standing);
        }
    }

    /// The binding key for a channel. On a topic exchange a name with `*` or `#` gets messages of others as well,
    /// which nobody wants, but its own among them.
    fn key_of(&self, channel: &str) -> String {
        match self.exchange_type {
            ExchangeType::Direct | ExchangeType::Topic => channel.to_owned(),
            ExchangeType::Fanout => NO_KEY.to_owned(),
        }
    }

    fn key_of_patterns(&self) -> Option<String> {
        match self.exchange_type {
            ExchangeType::Direct => None,
            ExchangeType::Fanout => Some(NO_KEY.to_owned()),
            ExchangeType::Topic => Some(EVERYTHING.to_owned()),
        }
    }

    fn needs(&self, key: &str) -> bool {
        let is_for_patterns = || !self.patterns.is_empty();
        match self.exchange_type {
            ExchangeType::Direct => self.channels.contains(key.as_bytes()),
            ExchangeType::Fanout => !self.channels.is_empty() || is_for_patterns(),
            ExchangeType::Topic => {
                self.channels.contains(key.as_bytes()) || (key == EVERYTHING && is_for_patterns())
            }
        }
    }

    /// Makes a key due if what the broker knows of it is not what is needed.
    fn look_at(&mut self, key: String) {
        let is_needed = self.needs(&key);
        let standing = self.keys.entry(key.clone()).or_default();
        standing.is_refused &= is_needed;
        if standing.is_due || standing.is_refused {
            return;
        }
        if standing.is_bound != is_needed {
            standing.is_due = true;
            self.due.push_back(key);
        } else if !is_needed {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the broker is asked for next, all of it: `+key` and `-key`.
    fn changes(bindings: &mut Bindings) -> Vec<String> {
        std::iter::from_fn(|| bindings.next_change())
            .map(|change| {
                let sign = if change.is_bind { '+' } else { '-' };
                format!("{sign}{}", change.key)
            })
            .collect()
    }

    #[test]
    fn what_is_wanted_becomes_binds_as_the_exchange_needs_them() {
        #[rustfmt::skip]
        let table: &[(ExchangeType, &[&str], &[&str])] = &[
            // Wishes: `+` a channel, `*` a pattern, `-` no more, `.` ask now.
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
            // A channel may have the name of the key that patterns need.
            (ExchangeType::Topic, &["+#", "*a*", ".", "-a*"], &["+#"]),
            (ExchangeType::Topic, &["+#", "*a*", ".", "-#"], &["+#"]),
        ];
        for (exchange_type, wishes, expected) in table {
            let mut bindings = Bindings::new(*exchange_type);
            let mut asked = Vec::new();
            for wish in *wishes {
                let (sign, name) = wish.split_at(1);
                match sign {
                    "+" => bindings.want(name),
                    "*" => {
                        let can = *exchange_type != ExchangeType::Direct;
                        assert_eq!(bindings.want_pattern(name.as_bytes()), can);
                    }
                    "-" => bindings.forgo(name.as_bytes()),
                    _ => asked.extend(changes(&mut bindings)),
                }
            }
            asked.extend(changes(&mut bindings));
            assert_eq!(asked, *expected, "{exchange_type} {wishes:?}");
            assert_eq!(bindings.unsettled(), expected.len());
            for _ in *expected {
                assert!(bindings.on_answer().is_some());
            }
            assert!(bindings.on_answer().is_none());
        }
    }

    #[test]
    fn all_that_is_wanted_is_bound_again_and_nothing_else() {
        let mut bindings = Bindings::new(ExchangeType::Direct);
        for name in ["b", "a", "gone", "going"] {
            bindings.want(name);
        }
        bindings.forgo(b"gone");
        assert_eq!(changes(&mut bindings), ["+b", "+a", "+going"]);
        bindings.forgo(b"going");
        bindings.want("c");
        bindings.start_again();
        assert_eq!(changes(&mut bindings), ["+a", "+b", "+c"]);
        assert_eq!(bindings.unsettled(), 3);
        bindings.forgo(b"a");
        assert_eq!(changes(&mut bindings), ["-a"]);
    }

    #[test]
    fn a_channel_that_is_refused_is_not_asked_for_again_while_it_is_wanted() {
        let mut bindings = Bindings::new(ExchangeType::Topic);
        bindings.want("secret");
        bindings.want("open");
        changes(&mut bindings);
        assert_eq!(bindings.on_refused().as_deref(), Some("secret"));
        bindings.start_again();
        bindings.want("secret");
        assert_eq!(changes(&mut bindings), ["+open"]);
        bindings.forgo(b"secret");
        assert_eq!(changes(&mut bindings), [""; 0]);
        bindings.want("secret");
        assert_eq!(changes(&mut bindings), ["+secret"]);
    }

    #[test]
    fn messages_of_channels_that_nobody_wants_are_dropped_unless_there_are_patterns() {
        let mut bindings = Bindings::new(ExchangeType::Topic);
        bindings.want("a.*");
        assert!(bindings.may_want(b"a.*"));
        assert!(!bindings.may_want(b"a.b"), "a name is no wildcard");
        bindings.want_pattern(b"x*");
        assert!(bindings.may_want(b"a.b") && bindings.may_want(b"\xff"));
        bindings.forgo(b"x*");
        assert!(!bindings.may_want(b"a.b"));
    }
}
