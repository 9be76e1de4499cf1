//! Rows: subscribers and channels as reports list them. It owns which are listed, and how far behind each one is; it must
//! not change anything.

use super::stats::{ChannelRow, Clock, ConnectionRow, Process, Snapshot, SourceState};
use super::streams::{Streams, Subscription};
use super::{Server, Settings};
use crate::bus::{Bus, Stream, Subscriber, SubscriberId};

/// The current state, with the oldest `rows_max` subscribers, and with what is known of the world outside.
pub fn snapshot<'a>(
    server: &'a Server,
    streams: &'a Streams,
    clock: &Clock,
    rows_max: usize,
    outside: (SourceState<'a>, Option<SourceState<'a>>, Process),
) -> Snapshot<'a> {
    let (source, exchange, process) = outside;
    let line = server.bus().line();
    Snapshot {
        node: &server.settings().node,
        reported_at: clock.unix_seconds,
        startup_time: clock.startup_time,
        uptime: clock.now.since(clock.started_at),
        counters: server.counters(),
        bus: line.counters(),
        sockets: streams.http().len(),
        channels: streams.demand().listened(),
        streams: line.registry().subscribers_by_stream(),
        log: line.log_state(),
        source,
        exchange,
        process,
        connections_total: line.registry().subscribers(),
        connections: connections(rows_max, streams, clock),
    }
}

/// The oldest subscribers, in order of age. A thousand of ten thousand take a third of a millisecond, all of them some
/// four.
fn connections<'a>(rows_max: usize, streams: &'a Streams, clock: &Clock) -> Vec<ConnectionRow<'a>> {
    if rows_max == 0 {
        return Vec::new();
    }
    let mut subscribers: Vec<&Subscription> = streams.active().collect();
    let age_of = |it: &&Subscription| (it.about.subscribed_at, it.about.key.generation);
    if rows_max < subscribers.len() {
        // Only those that are listed need to be sorted.
        subscribers.select_nth_unstable_by_key(rows_max, age_of);
        subscribers.truncate(rows_max);
    }
    subscribers.sort_unstable_by_key(age_of);
    let row = |it: &'a Subscription| {
        let (about, id, bus) = (&it.about, it.subscriber, streams.bus());
        let age = clock.now.since(about.subscribed_at).as_secs();
        let has_caught_up = streams.http().caught_up(about.key.index).is_some();
        ConnectionRow {
            request_path: &about.path,
            tag: tag(bus, id),
            created_at: clock.unix_seconds.saturating_sub(age),
            age,
            client_ip: about.client_ip,
            user_agent: &about.user_agent,
            msgs_sent: bus.subscriber(id).map_or(0, Subscriber::events),
            // The cursor of one that has caught up may be outdated.
            behind: match has_caught_up {
                true => 0,
                false => bus.events_behind(id),
            },
        }
    };
    subscribers.into_iter().map(row).collect()
}

/// The ID of a detail stream.
fn tag(bus: &Bus, id: SubscriberId) -> Option<&str> {
    match bus.name_of(id) {
        Some((Stream::Details, child)) => child.and_then(|id| std::str::from_utf8(id).ok()),
        _ => None,
    }
}

/// The channels with the most subscribers, ordered by their number and then by name. A thousand of ten thousand take a
/// millisecond.
pub fn channels(server: &Server) -> Vec<ChannelRow<'_>> {
    largest(subscribed(server.bus()).collect(), server.settings())
}

/// The subscribers of each of these names and patterns, the largest first. A channel counts for its name if that is
/// among them, and otherwise for the first pattern that it matches, because clients choose its name.
pub fn channels_by_pattern(server: &Server) -> Vec<ChannelRow<'_>> {
    let patterns = &server.settings().channels.patterns;
    let mut rows: Vec<ChannelRow<'_>> = patterns
        .iter()
        .map(|pattern| ChannelRow {
            name: pattern.text(),
            subscribers: 0,
        })
        .collect();
    for row in subscribed(server.bus()) {
        let named = patterns.iter().position(|it| it.text() == row.name);
        let matching = || patterns.iter().position(|it| it.matches(row.name));
        if let Some(index) = named.or_else(matching) {
            rows[index].subscribers += row.subscribers;
        }
    }
    rows.retain(|row| row.subscribers > 0);
    largest(rows, server.settings())
}

/// The channels that have subscribers, in no order that means anything.
fn subscribed(bus: &Bus) -> impl Iterator<Item = ChannelRow<'_>> {
    let children = bus.line().registry().children(Stream::Channels);
    children
        .filter(|&(_, subscribers)| subscribers > 0)
        .map(|(name, subscribers)| ChannelRow {
            name: std::str::from_utf8(name).unwrap_or_default(),
            subscribers,
        })
}

fn largest<'a>(mut rows: Vec<ChannelRow<'a>>, settings: &Settings) -> Vec<ChannelRow<'a>> {
    let rows_max = settings.reports.channel_stats_max;
    let by_size = |one: &ChannelRow<'_>, other: &ChannelRow<'_>| {
        let subscribers = other.subscribers.cmp(&one.subscribers);
        subscribers.then_with(|| one.name.cmp(other.name))
    };
    if rows_max < rows.len() {
        // Only those that are listed need to be sorted.
        rows.select_nth_unstable_by(rows_max, by_size);
        rows.truncate(rows_max);
    }
    rows.sort_unstable_by(by_size);
    rows
}
