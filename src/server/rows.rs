//! Rows: subscribers and channels as reports list them. It owns which are listed, and how far behind each one is; it must
//! not change anything.

use super::stats::{ChannelRow, Clock, ConnectionRow};
use super::streams::{Streams, Subscription};
use crate::bus::{Bus, Stream, Subscriber};

/// The oldest subscribers, in order of age. A thousand of ten thousand take a third of a millisecond, all of them some
/// four.
pub fn connections<'a>(
    rows_max: usize,
    streams: &'a Streams,
    clock: &Clock,
) -> Vec<ConnectionRow<'a>> {
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
            tag: about.tag.as_deref(),
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

/// The channels with the most subscribers, ordered by their number and then by name. A thousand of ten thousand take a
/// millisecond.
pub fn channels<'a>(rows_max: usize, bus: &'a Bus) -> Vec<ChannelRow<'a>> {
    let children = bus.line().registry().children(Stream::Channels);
    let mut rows: Vec<ChannelRow<'a>> = children
        .filter(|&(_, subscribers)| subscribers > 0)
        .map(|(name, subscribers)| ChannelRow {
            name: std::str::from_utf8(name).unwrap_or_default(),
            subscribers,
        })
        .collect();
    let by_size = |row: &ChannelRow<'a>| (std::cmp::Reverse(row.subscribers), row.name);
    if rows_max < rows.len() {
        // Only those that are listed need to be sorted.
        rows.select_nth_unstable_by_key(rows_max, by_size);
        rows.truncate(rows_max);
    }
    rows.sort_unstable_by_key(by_size);
    rows
}
