//! Rows: subscribers and channels as reports list them. It owns which are shown, and how far behind each is said to be;
//! it must not change anything.

use super::clients::Clients;
use super::stats::{ChannelRow, ConnectionRow};
use super::streams::Subscription;
use crate::bus::{Bus, Stream, Subscriber};

/// The oldest subscribers, the oldest first. A thousand of ten thousand take a third of a millisecond, all
/// of them some four.
pub fn connections<'a>(rows_max: usize, clients: &'a Clients, bus: &Bus) -> Vec<ConnectionRow<'a>> {
    if rows_max == 0 {
        return Vec::new();
    }
    let mut subscribers: Vec<&Subscription> = clients.streams().active().collect();
    let age_of = |it: &&Subscription| (it.about.subscribed_at, it.about.key.generation);
    if rows_max < subscribers.len() {
        // Only those that are shown need an order among themselves.
        subscribers.select_nth_unstable_by_key(rows_max, age_of);
        subscribers.truncate(rows_max);
    }
    subscribers.sort_unstable_by_key(age_of);
    let rows = subscribers.into_iter();
    rows.map(|it| connection(it, clients, bus)).collect()
}

fn connection<'a>(
    subscription: &'a Subscription,
    clients: &Clients,
    bus: &Bus,
) -> ConnectionRow<'a> {
    let clock = clients.clock();
    let (about, id) = (&subscription.about, subscription.subscriber);
    let age = clock.now.since(about.subscribed_at).as_secs();
    ConnectionRow {
        request_path: &about.path,
        tag: about.tag.as_deref(),
        created_at: clock.unix_seconds.saturating_sub(age),
        age,
        client_ip: about.client_ip,
        user_agent: &about.user_agent,
        msgs_sent: bus.subscriber(id).map_or(0, Subscriber::events),
        // The cursor of one that has caught up may be outdated.
        behind: match clients.http().is_caught_up(about.key) {
            true => 0,
            false => bus.events_behind(id),
        },
    }
}

/// The channels that have most subscribers, those first, and then by name. Ten thousand of them take some
/// milliseconds.
pub fn channels(rows_max: usize, bus: &Bus) -> Vec<ChannelRow<'_>> {
    let children = bus.line().registry().children(Stream::Channels);
    let mut rows: Vec<ChannelRow<'_>> = children
        .filter(|&(_, subscribers)| subscribers > 0)
        .map(|(name, subscribers)| ChannelRow {
            name: std::str::from_utf8(name).unwrap_or_default(),
            subscribers,
        })
        .collect();
    rows.sort_unstable_by_key(|row| row.name);
    rows.sort_by_key(|row| std::cmp::Reverse(row.subscribers));
    rows.truncate(rows_max);
    rows
}
