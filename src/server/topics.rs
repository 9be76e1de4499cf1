//! Topics: which namespaces a client subscribes to. It owns which names are permitted, and how lists of them are parsed; it
//! must not know paths other than those in a list.

use super::messages::is_own_channel;
use super::route::{Resource, find};
use super::settings::Settings;
use crate::bus::{Coding, Format, Name, Stream, sse};
use crate::glob::Glob;
use crate::http::reply::Reply;
use crate::http::target;
use crate::limits::{LISTED_NAMES_MAX, NAMESPACES_MAX, SEGMENT_BYTES_MAX};

/// A namespace that a client subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The stream.
    pub stream: Stream,
    /// The child's segment, or the channel; `None` for the whole stream.
    pub child: Option<String>,
    /// Whether a channel's events name it.
    pub is_named: bool,
}

impl Topic {
    pub(super) fn new(stream: Stream, child: Option<&str>) -> Topic {
        Topic {
            stream,
            child: child.map(str::to_owned),
            is_named: false,
        }
    }

    /// Its name on the bus.
    pub fn name(&self) -> Name<'_> {
        (self.stream, self.child.as_deref().map(str::as_bytes))
    }

    /// The channel, if it is one.
    pub fn channel(&self) -> Option<&str> {
        let child = self.child.as_deref();
        child.filter(|_| self.stream == Stream::Channels)
    }
}

/// How the events of these topics are written. Those of channels always have positions.
pub fn format(topics: &[Topic], is_chunked: bool, wants_ids: bool) -> Format {
    Format {
        coding: match is_chunked {
            true => Coding::Chunked,
            false => Coding::Bare,
        },
        named: topics.iter().any(|topic| topic.is_named),
        ids: wants_ids || topics.iter().any(|it| it.stream == Stream::Channels),
    }
}

/// Topics as a client lists them.
#[derive(Default)]
struct List {
    /// Each once.
    topics: Vec<Topic>,
    /// How many were listed, repeated ones included.
    listed: usize,
}

impl List {
    /// Adds a topic, or refuses the list. A query has room for thousands of topics, so the rest of one that is too long is
    /// not looked at.
    fn add(&mut self, topic: Topic) -> Result<(), Reply> {
        self.listed += 1;
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        if self.topics.len() > NAMESPACES_MAX || self.listed > LISTED_NAMES_MAX {
            let text = format!(
                "too many streams or channels; list at most {NAMESPACES_MAX} different ones, and \
                 {LISTED_NAMES_MAX} in all"
            );
            return Err(Reply::error(400, &text));
        }
        Ok(())
    }

    /// The topics without channels that a pattern among them covers, so that no message comes twice.
    fn finish(self, settings: &Settings) -> Vec<Topic> {
        let is_asked_for = |glob: &&Glob| {
            let mut channels = self.topics.iter().filter_map(Topic::channel);
            glob.is_pattern() && channels.any(|name| name == glob.text())
        };
        let patterns = settings.channels.patterns.iter().filter(is_asked_for);
        let patterns: Vec<&Glob> = patterns.collect();
        let is_covered = |name: &str| {
            let is_pattern = patterns.iter().any(|glob| glob.text() == name);
            !is_pattern && patterns.iter().any(|glob| glob.matches(name))
        };
        let mut topics = self.topics;
        topics.retain(|topic| !topic.channel().is_some_and(is_covered));
        topics
    }
}

/// The topics that a query lists with `ns`.
pub fn of_namespaces(query: &str, settings: &Settings) -> Result<Vec<Topic>, Reply> {
    let mut list = List::default();
    // Not for each name, because each would scan the whole query.
    let is_named = names_channels(query);
    for name in target::query_values(query, "ns") {
        if name.len() > SEGMENT_BYTES_MAX || name.bytes().any(|byte| byte.is_ascii_control()) {
            let message = format!(
                "ns: a name has at most {SEGMENT_BYTES_MAX} bytes and no control characters"
            );
            return Err(Reply::error(400, &message));
        }
        let segments: Vec<&str> = name.split('/').collect();
        let resource = match segments.split_first() {
            Some((&"", below)) => find(&[&["subscribe"], below].concat(), "", settings),
            _ => None,
        };
        match resource {
            Some(Resource::Stream(stream, child)) => list.add(Topic::new(stream, child))?,
            Some(Resource::Channels(Some(name))) => list.add(channel(name, is_named, settings)?)?,
            _ => {
                let message = "ns: there is no such stream; use one such as /eps";
                return Err(Reply::error(404, message));
            }
        }
    }
    Ok(list.finish(settings))
}

/// The query fields that list channels; the last two are how jQuery writes lists.
pub const CHANNEL_FIELDS: [&str; 3] = ["channels", "channels[]", "channels%5B%5D"];

/// The channels that a query lists.
pub fn of_lists(query: &str, settings: &Settings) -> Result<Vec<Topic>, Reply> {
    let message = "channels: use UTF-8, in percent escapes where it is not ASCII";
    let mut lists = Vec::new();
    for field in CHANNEL_FIELDS {
        let values = target::decoded_query_values(query, field);
        lists.extend(values.ok_or_else(|| Reply::error(400, message))?);
    }
    let names = lists.iter().flat_map(|list| list.split(','));
    of_channels(names, names_channels(query), settings)
}

/// Whether a query requests events that name their channel.
pub fn names_channels(query: &str) -> bool {
    target::query_values(query, "event").any(|event| event == "channel")
}

/// The channels with these names.
pub fn of_channels<'a>(
    names: impl IntoIterator<Item = &'a str>,
    is_named: bool,
    settings: &Settings,
) -> Result<Vec<Topic>, Reply> {
    let mut list = List::default();
    for name in names {
        list.add(channel(name, is_named, settings)?)?;
    }
    if list.topics.is_empty() {
        let message = "name a channel, as in /?channels=news or /subscribe/channels/news";
        return Err(Reply::error(400, message));
    }
    Ok(list.finish(settings))
}

fn channel(name: &str, is_named: bool, settings: &Settings) -> Result<Topic, Reply> {
    if !is_name(name) {
        return Err(bad_name());
    }
    if !is_allowed(name, settings) {
        let message = format!("the channel {name:?} is not one that can be subscribed to");
        return Err(Reply::error(403, &message));
    }
    if is_pattern(name, settings) && !settings.channels.patterns_enabled {
        let message = format!(
            "{name:?} is a pattern, to which clients may subscribe only if CHANNELS_PATTERNS=true"
        );
        return Err(Reply::error(403, &message));
    }
    Ok(Topic {
        is_named,
        ..Topic::new(Stream::Channels, Some(name))
    })
}

/// Whether this can be the name of a channel.
pub fn is_name(name: &str) -> bool {
    (1..=SEGMENT_BYTES_MAX).contains(&name.len()) && !sse::has_control_bytes(name.as_bytes())
}

/// The refusal of an invalid name.
pub fn bad_name() -> Reply {
    let text =
        format!("a channel's name has 1 to {SEGMENT_BYTES_MAX} bytes and no control characters");
    Reply::error(400, &text)
}

/// Whether clients may subscribe or publish to a channel.
pub fn is_allowed(name: &str, settings: &Settings) -> bool {
    let mut globs = settings.channels.patterns.iter();
    !is_own_channel(name.as_bytes()) && globs.any(|glob| glob.matches(name) || glob.text() == name)
}

/// Whether this name is a configured pattern, so that it means all channels that match it.
pub fn is_pattern(name: &str, settings: &Settings) -> bool {
    let mut globs = settings.channels.patterns.iter();
    globs.any(|glob| glob.is_pattern() && glob.text() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::settings::tests::settings;

    /// Asks for channels where `a*`, `b` and `*z` may be asked for, and counts the topics.
    fn count(query: &str) -> Option<usize> {
        let mut settings = settings();
        settings.channels.patterns = ["a*", "b", "*z"].map(Glob::new).into();
        settings.channels.patterns_enabled = true;
        of_lists(query, &settings).ok().map(|topics| topics.len())
    }

    #[test]
    fn a_pattern_can_be_asked_for_only_where_that_is_enabled() {
        let mut settings = settings();
        settings.channels.patterns = ["a*", "b", "c\\*"].map(Glob::new).into();
        // What is not a pattern of the configuration is a name, whatever is in it.
        for (names, is_refused) in [
            ("a*", true),
            ("b,a*", true),
            ("a1", false),
            ("b", false),
            ("a?", false),
            ("a**", false),
            ("c*", false),
        ] {
            settings.channels.patterns_enabled = false;
            let lists = [
                (
                    of_lists as fn(&str, &Settings) -> _,
                    format!("channels={names}"),
                ),
                (
                    of_namespaces,
                    format!("ns=/channels/{}", names.replace(',', "&ns=/channels/")),
                ),
            ];
            for (parse, query) in &lists {
                match parse(query, &settings) {
                    Ok(_) => assert!(!is_refused, "{query}"),
                    Err(reply) => {
                        assert!(is_refused, "{query}");
                        assert_eq!(reply.status, 403);
                        let text = String::from_utf8_lossy(&reply.body);
                        assert!(text.contains("CHANNELS_PATTERNS"), "{text}");
                    }
                }
            }
            settings.channels.patterns_enabled = true;
            for (parse, query) in &lists {
                assert!(parse(query, &settings).is_ok(), "{query}");
            }
        }
    }

    #[test]
    fn a_channel_is_asked_for_once_and_not_beside_its_pattern() {
        let numbered = |count: usize| {
            let names = (0..count).map(|number| format!("a{number}"));
            names.collect::<Vec<_>>().join(",")
        };
        for (names, expected) in [
            ("a1,b,a1".to_owned(), Some(2)),
            ("a1,a*,az,b,a*".to_owned(), Some(2)),
            ("*z,az,bz".to_owned(), Some(1)),
            ("a*,*z".to_owned(), Some(2)),
            (numbered(NAMESPACES_MAX), Some(NAMESPACES_MAX)),
            (numbered(NAMESPACES_MAX + 1), None),
            // What comes anyway counts as well, because a long list is not looked at to its end.
            (numbered(1_000) + ",a*", None),
            (numbered(NAMESPACES_MAX - 1) + ",a*", Some(1)),
            ("b,".repeat(1_000) + "b", Some(1)),
            ("b,".repeat(2_000) + "b", None),
            ("c".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(count(&format!("channels={names}")), expected, "{names}");
        }
    }
}
