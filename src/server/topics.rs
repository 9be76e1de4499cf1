//! Topics: which namespaces a client asks for. It owns what may be asked for, and what a list of names amounts to; it
//! must not know paths beside those in a list.

use super::messages::is_own_channel;
use super::route::{Resource, find};
use super::settings::Settings;
use crate::bus::{Coding, Format, Name, Stream, sse};
use crate::glob::Glob;
use crate::http::reply::Reply;
use crate::http::target;
use crate::limits::{NAMESPACES_MAX, SEGMENT_BYTES_MAX};

/// A namespace as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Of which stream.
    pub stream: Stream,
    /// The child's segment, or the channel; `None` for all of the stream.
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

    /// How the bus knows it.
    pub fn name(&self) -> Name<'_> {
        (self.stream, self.child.as_deref().map(str::as_bytes))
    }

    /// The name of the channel that this is, if it is one.
    fn channel(&self) -> Option<&str> {
        let child = self.child.as_deref();
        child.filter(|_| self.stream == Stream::Channels)
    }
}

/// What a list of topics amounts to.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Whose settings hold for it: what carries anything but scores lasts as long as that.
    pub stream: Stream,
    /// Whether there are channels among them.
    pub has_channels: bool,
    /// Whether there is anything else among them.
    pub has_others: bool,
}

impl Mix {
    /// What these amount to.
    pub fn of(topics: &[Topic]) -> Mix {
        let streams = || topics.iter().map(|topic| topic.stream);
        let stream = streams().max_by_key(|stream| !stream.is_score());
        Mix {
            stream: stream.unwrap_or(Stream::Details),
            has_channels: streams().any(|stream| stream == Stream::Channels),
            has_others: streams().any(|stream| stream != Stream::Channels),
        }
    }

    /// Whether a request for it is a long poll: one of a script, for channels alone.
    pub fn is_poll(self, is_xhr: bool) -> bool {
        is_xhr && !self.has_others
    }
}

/// How the events of these topics are written, in chunks or as they are.
pub fn format(topics: &[Topic], is_chunked: bool) -> Format {
    Format {
        coding: match is_chunked {
            true => Coding::Chunked,
            false => Coding::Bare,
        },
        named: topics.iter().any(|topic| topic.is_named),
    }
}

/// The namespaces that a query names with `ns`, each once.
pub fn of_namespaces(query: &str, settings: &Settings) -> Result<Vec<Topic>, Reply> {
    let mut found = Vec::new();
    for name in target::query_values(query, "ns") {
        if name.len() > SEGMENT_BYTES_MAX || name.bytes().any(|byte| byte.is_ascii_control()) {
            let message = format!("ns: use at most {SEGMENT_BYTES_MAX} bytes, none a control byte");
            return Err(Reply::error(400, &message));
        }
        let segments: Vec<&str> = name.split('/').collect();
        let resource = match segments.split_first() {
            Some((&"", below)) => find(&[&["subscribe"], below].concat(), "", settings),
            _ => None,
        };
        match resource {
            Some(Resource::Stream(stream, child)) => found.push(Topic::new(stream, child)),
            Some(Resource::Channels(Some(name))) => {
                found.extend(of_channels(&[name.to_owned()], query, settings)?);
            }
            _ => {
                let message = "ns: there is no such stream; use one such as /eps";
                return Err(Reply::error(404, message));
            }
        }
    }
    each_once(found, settings).ok_or_else(|| {
        let message = format!("ns: too many streams; use at most {NAMESPACES_MAX}");
        Reply::error(400, &message)
    })
}

/// What a query names channels with; the others are how jQuery writes lists.
pub const CHANNEL_FIELDS: [&str; 3] = ["channels", "channels[]", "channels%5B%5D"];

/// The channels that a query names, in one list or in several.
pub fn of_lists(query: &str, settings: &Settings) -> Result<Vec<Topic>, Reply> {
    let message = "channels: use UTF-8, in percent escapes where it is not ASCII";
    let mut names = Vec::new();
    for field in CHANNEL_FIELDS {
        let lists = target::decoded_query_values(query, field);
        let lists = lists.ok_or_else(|| Reply::error(400, message))?;
        let several = lists.iter().flat_map(|list| list.split(','));
        names.extend(several.map(str::to_owned));
    }
    of_channels(&names, query, settings)
}

/// Channels of these names, each once, in the form that the query asks for.
pub fn of_channels(
    names: &[String],
    query: &str,
    settings: &Settings,
) -> Result<Vec<Topic>, Reply> {
    if names.is_empty() {
        let message = "name what you want, such as /?channels=news or /subscribe/channels/news";
        return Err(Reply::error(400, message));
    }
    if !names.iter().all(|name| is_name(name)) {
        let message = format!("a channel has 1 to {SEGMENT_BYTES_MAX} bytes, none a control byte");
        return Err(Reply::error(400, &message));
    }
    if let Some(name) = names.iter().find(|name| !is_allowed(name, settings)) {
        let message = format!("the channel {name:?} is not one that can be subscribed to");
        return Err(Reply::error(403, &message));
    }
    let is_named = target::query_values(query, "event").any(|event| event == "channel");
    let topic = |name: &String| Topic {
        is_named,
        ..Topic::new(Stream::Channels, Some(name))
    };
    each_once(names.iter().map(topic).collect(), settings).ok_or_else(|| {
        let message = format!("too many channels; use at most {NAMESPACES_MAX}");
        Reply::error(400, &message)
    })
}

/// The topics, each once, without channels that a pattern among them brings: nothing must come a second time. `None`
/// where there are too many. A query has room for thousands of them, so that each is compared with few.
fn each_once(found: Vec<Topic>, settings: &Settings) -> Option<Vec<Topic>> {
    let is_asked_for = |glob: &&Glob| {
        let mut channels = found.iter().filter_map(Topic::channel);
        glob.is_pattern() && channels.any(|name| name == glob.text())
    };
    let patterns: Vec<&Glob> = settings
        .channels
        .patterns
        .iter()
        .filter(is_asked_for)
        .collect();
    let is_covered = |name: &str| {
        let is_pattern = patterns.iter().any(|glob| glob.text() == name);
        !is_pattern && patterns.iter().any(|glob| glob.matches(name))
    };
    let mut topics: Vec<Topic> = Vec::new();
    for topic in &found {
        if topic.channel().is_some_and(is_covered) || topics.contains(topic) {
            continue;
        }
        if topics.len() == NAMESPACES_MAX {
            return None;
        }
        topics.push(topic.clone());
    }
    Some(topics)
}

/// Whether a channel can have this name at all.
pub fn is_name(name: &str) -> bool {
    (1..=SEGMENT_BYTES_MAX).contains(&name.len()) && !sse::has_control_bytes(name.as_bytes())
}

/// Whether a channel of this name may be asked for, or published to.
pub fn is_allowed(name: &str, settings: &Settings) -> bool {
    let mut globs = settings.channels.patterns.iter();
    !is_own_channel(name.as_bytes()) && globs.any(|glob| glob.matches(name) || glob.text() == name)
}

/// Whether this name stands for all channels that match it: whoever may ask for just these may ask for the pattern.
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
        of_lists(query, &settings).ok().map(|topics| topics.len())
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
            // A long list of what comes anyway is none.
            (numbered(1_000) + ",a*", Some(1)),
            ("b,".repeat(1_000) + "b", Some(1)),
            ("c".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(count(&format!("channels={names}")), expected, "{names}");
        }
    }
}
