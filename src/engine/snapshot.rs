//! Snapshots: the state at one moment, taken for reports. It owns which connections are shown, and how far
//! behind each is said to be; it must not change anything.

use super::Engine;
use super::conn::{Conn, Key, Subscription};
use super::stats::{ConnectionRow, Process, Snapshot, SourceState};
use crate::bus::{Subscriber, SubscriberId};

impl Engine {
    /// The state at this moment, with the oldest `rows_max` subscribers, and with what others know.
    pub fn snapshot<'a>(
        &'a self,
        rows_max: usize,
        source: SourceState<'a>,
        exchange: Option<SourceState<'a>>,
        process: Process,
    ) -> Snapshot<'a> {
        let registry = self.bus.line().registry();
        Snapshot {
            node: &self.settings.node,
            reported_at: self.unix_seconds,
            startup_time: self.startup_time,
            uptime: self.now.since(self.started_at),
            counters: &self.counters,
            bus: self.bus.line().counters(),
            sockets: self.conns.len(),
            channels: self.listened.len(),
            streams: registry.subscribers_by_stream(),
            log: self.bus.line().log_state(),
            source,
            exchange,
            process,
            connections_total: registry.subscribers(),
            connections: self.rows(rows_max),
        }
    }

    /// The oldest subscribers, the oldest first. A thousand of ten thousand take a third of a millisecond, all
    /// of them some four.
    fn rows(&self, rows_max: usize) -> Vec<ConnectionRow<'_>> {
        if rows_max == 0 {
            return Vec::new();
        }
        let subscribers = self
            .conns
            .iter()
            .filter_map(|(key, conn)| Some((key, conn, conn.subscription()?)));
        let mut subscribers: Vec<(Key, &Conn, &Subscription)> = subscribers.collect();
        let age_of = |(key, conn, _): &(Key, &Conn, _)| (conn.about.subscribed_at, key.generation);
        if rows_max < subscribers.len() {
            // Only those that are shown need an order among themselves.
            subscribers.select_nth_unstable_by_key(rows_max, age_of);
            subscribers.truncate(rows_max);
        }
        subscribers.sort_unstable_by_key(age_of);
        let rows = subscribers.into_iter();
        rows.map(|(_, conn, subscription)| self.row(conn, subscription.id))
            .collect()
    }

    fn row<'a>(&self, conn: &'a Conn, id: SubscriberId) -> ConnectionRow<'a> {
        let age = self.now.since(conn.about.subscribed_at).as_secs();
        ConnectionRow {
            request_path: &conn.about.path,
            tag: conn.about.tag.as_deref(),
            created_at: self.unix_seconds.saturating_sub(age),
            age,
            client_ip: conn.about.client_ip,
            user_agent: &conn.about.user_agent,
            msgs_sent: self.bus.subscriber(id).map_or(0, Subscriber::events),
            behind: self.events_behind(conn, id),
        }
    }

    /// How many events a subscriber has not taken. One that is not behind may have an outdated cursor.
    fn events_behind(&self, conn: &Conn, id: SubscriberId) -> u64 {
        match conn.is_behind() {
            true => self.bus.events_behind(id),
            false => 0,
        }
    }
}
