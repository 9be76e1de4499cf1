//! Graphite: encodes reports in Carbon's plaintext protocol. It owns the paths below the root (those of the old server
//! must not change) and which figures cover an interval; it must not know how lines are sent.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;

use super::{closes, decimal, dropped, totals};
use crate::server::stats::{ChannelRow, Histogram, Snapshot, Stream, bus};

/// The longest line, line end included. Carbon accepts longer ones, but several must fit into one datagram, which
/// networks deliver unfragmented up to some 1,400 bytes.
pub const LINE_BYTES_MAX: usize = 400;

/// The longest root. The rest of a line always has less than 80 bytes.
pub const ROOT_BYTES_MAX: usize = LINE_BYTES_MAX - 80;

/// Appends one report of some 50 lines `<root>.<path> <value> <unix time>`, with the time of the snapshot. `root`
/// consists of segments as made by [`segment`], and is at most [`ROOT_BYTES_MAX`] long.
///
/// Counters are totals since the start, not differences, so that a lost datagram costs a point but no count. Apply
/// `nonNegativeDerivative` to them, which also copes with restarts.
///
/// Quantiles and means cover the time since `before`, the counters of the previous report (since the start if there
/// is none). They are in milliseconds, and left out if nothing happened. A quantile is the upper bound of its
/// bucket; five seconds stand for anything longer.
pub fn encode(
    out: &mut Vec<u8>,
    root: &str,
    snapshot: &Snapshot<'_>,
    before: Option<&bus::Counters>,
) {
    let at = snapshot.reported_at;
    let lines = &mut Lines { out, root, at };
    for (stream, count) in Stream::ALL.into_iter().zip(snapshot.streams) {
        let name = stream_name(stream);
        lines.push(format_args!("stream.{name}.clients"), count);
    }
    lines.push("connections.open", snapshot.sockets);
    for (.., path, total) in totals(snapshot) {
        lines.push(path, total);
    }
    for (reason, total) in closes(snapshot) {
        lines.push(format_args!("connections.closed.{reason}"), total);
    }
    for (cause, total) in dropped(snapshot) {
        lines.push(format_args!("messages.dropped.{cause}"), total);
    }
    let start = bus::Counters::default();
    durations(lines, snapshot.bus, before.unwrap_or(&start));
    lines.push("log.bytes", snapshot.log.bytes);
    lines.push("log.reach_sec", snapshot.log.reach.as_secs());
    lines.push("channels.open", snapshot.channels);
    lines.push("source.up", u8::from(snapshot.source.is_live));
    lines.push("source.losses", snapshot.source.losses);
    if let Some(exchange) = &snapshot.exchange {
        lines.push("exchange.up", u8::from(exchange.is_live));
        lines.push("exchange.losses", exchange.losses);
    }
    lines.push("memory.bytes", snapshot.process.resident_bytes);
    lines.push("cpu.ms", snapshot.process.cpu.as_millis());
    lines.push("descriptors", snapshot.process.descriptors);
}

/// Appends a line `<root>.channels.<name>.clients` with the number of subscribers for each of these channels and
/// patterns. Those whose names become equal by cleaning and truncation share a line. Each new name becomes a file in
/// Graphite, so no name may be a client's invention.
pub fn encode_channels(out: &mut Vec<u8>, root: &str, rows: &[ChannelRow<'_>], at: u64) {
    let name_bytes_max = ROOT_BYTES_MAX.saturating_sub(root.len()) + CHANNEL_NAME_BYTES_MIN;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let mut name = segment(row.name);
        name.truncate(name_bytes_max);
        *names.entry(name).or_default() += row.subscribers;
    }
    let lines = &mut Lines { out, root, at };
    for (name, subscribers) in names {
        lines.push(format_args!("channels.{name}.clients"), subscribers);
    }
}

/// How much of a channel's name fits after the longest root.
const CHANNEL_NAME_BYTES_MIN: usize = 16;

/// The names that the old server used for the streams, and that dashboards use.
fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Raw => "raw",
        Stream::Eps => "eps",
        Stream::Details => "detail",
        Stream::Kiosk => "kiosk",
        Stream::Channels => "channels",
        Stream::Several => "several",
    }
}

fn durations(lines: &mut Lines<'_>, counters: &bus::Counters, before: &bus::Counters) {
    let lateness = counters.tick_lateness.since(&before.tick_lateness);
    lines.interval("ticks.late_ms", &lateness);
    lines.quantile("ticks.late_ms_max", &lateness, 1.0);
    let deliveries = counters.delivery.iter().zip(&before.delivery);
    for (stream, (times, earlier)) in Stream::ALL.into_iter().zip(deliveries) {
        let name = stream_name(stream);
        lines.interval(format_args!("delivery.{name}.ms"), &times.since(earlier));
    }
}

/// The lines of one report, which share the root and the time.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    root: &'a str,
    at: u64,
}

impl Lines<'_> {
    fn push(&mut self, path: impl Display, value: impl Display) {
        let Lines { out, root, at } = self;
        let end = out.len();
        let _infallible = writeln!(out, "{root}.{path} {value} {at}");
        debug_assert!(out.len() - end <= LINE_BYTES_MAX, "a line is too long");
    }

    /// Mean and quantiles of the durations in one interval.
    fn interval(&mut self, path: impl Display, times: &Histogram) {
        if let Some(mean_us) = times.sum_us().checked_div(times.total()) {
            self.push(format_args!("{path}_mean"), decimal(mean_us, 3));
        }
        self.quantile(format_args!("{path}_p50"), times, 0.5);
        self.quantile(format_args!("{path}_p99"), times, 0.99);
    }

    fn quantile(&mut self, path: impl Display, times: &Histogram, share: f64) {
        if times.total() > 0 {
            self.push(path, decimal(times.quantile_us(share), 3));
        }
    }
}

/// One segment of a metric's path: letters, digits, `-` and `_`; any other character, including a dot, becomes `_`.
pub fn segment(text: &str) -> String {
    let fit = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let clean = |letter| if fit(letter) { letter } else { '_' };
    text.chars().map(clean).collect()
}

/// A path whose segments are separated by dots in the text; empty segments are left out.
pub fn path(text: &str) -> String {
    let segments = text.split('.').filter(|part| !part.is_empty());
    let segments: Vec<String> = segments.map(segment).collect();
    segments.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;
    use crate::server::stats::CloseReason;

    fn encoded(root: &str, snapshot: &Snapshot<'_>, before: Option<&bus::Counters>) -> String {
        let mut out = b"kept\n".to_vec();
        encode(&mut out, root, snapshot, before);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("kept\n").unwrap().to_owned()
    }

    /// The paths and values of a report, after checking root and time.
    fn figures<'a>(text: &'a str, root: &str) -> Vec<(&'a str, &'a str)> {
        let mut figures = Vec::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [path, value, "1700000100"] = parts[..] else {
                panic!("{line:?}");
            };
            let path = path
                .strip_prefix(root)
                .and_then(|path| path.strip_prefix('.'));
            figures.push((path.unwrap(), value));
        }
        figures
    }

    #[test]
    fn channel_lines_are_merged_and_bounded_in_length() {
        let row = |name, subscribers| ChannelRow { name, subscribers };
        let long = "x".repeat(200);
        let rows = [
            row("news.\u{e9} 1", 2),
            row("b", 1),
            row("news_\u{e8}_1", 3),
        ];
        let mut out = Vec::new();
        encode_channels(&mut out, "key.web.1", &rows, 1_700_000_100);
        let figures = figures(std::str::from_utf8(&out).unwrap(), "key.web.1").to_vec();
        let expected = [
            ("channels.b.clients", "1"),
            ("channels.news___1.clients", "5"),
        ];
        assert_eq!(figures, expected);
        out.clear();
        encode_channels(
            &mut out,
            &"r".repeat(ROOT_BYTES_MAX),
            &[row(&long, usize::MAX)],
            u64::MAX,
        );
        assert!(out.len() <= LINE_BYTES_MAX, "{}", out.len());
        let whole = format!("channels.{long}.clients");
        out.clear();
        encode_channels(&mut out, "r", &[row(&long, 1)], 1);
        assert!(String::from_utf8(out).unwrap().contains(&whole));
    }

    #[test]
    fn each_figure_has_its_path() {
        let totals = example::totals();
        let text = encoded("key.web.1", &example::snapshot(&totals), None);
        assert!(text.starts_with("key.web.1.stream.raw.clients 2 1700000100\n"));
        assert!(text.ends_with('\n'));
        let expected = [
            ("stream.raw.clients", "2"),
            ("stream.eps.clients", "7"),
            ("stream.detail.clients", "5"),
            ("stream.kiosk.clients", "3"),
            ("stream.channels.clients", "4"),
            ("stream.several.clients", "1"),
            ("connections.open", "19"),
            ("connections.accepted", "101"),
            ("subscriptions", "102"),
            ("shed", "103"),
            ("replays.served", "104"),
            ("replays.refused", "105"),
            ("messages.in", "106"),
            ("frames", "111"),
            ("events.out", "113"),
            ("bytes.out", "18446744073709551615"),
            ("conflations", "115"),
            ("publications", "117"),
            ("auth.failures", "118"),
            ("ticks.count", "116"),
            ("connections.closed.client", "200"),
            ("connections.closed.reset", "201"),
            ("connections.closed.timeout", "202"),
            ("connections.closed.slow", "203"),
            ("connections.closed.idle", "204"),
            ("connections.closed.answered", "205"),
            ("connections.closed.protocol", "206"),
            ("connections.closed.lifetime", "207"),
            ("connections.closed.cleanup", "208"),
            ("connections.closed.shed", "209"),
            ("connections.closed.crowded", "210"),
            ("connections.closed.drain", "211"),
            ("connections.closed.failure", "212"),
            ("messages.dropped.encoding", "107"),
            ("messages.dropped.channel", "108"),
            ("messages.dropped.oversized", "109"),
            ("messages.dropped.unknown", "110"),
            ("messages.dropped.relay", "112"),
            ("ticks.late_ms_mean", "1008.533"),
            ("ticks.late_ms_p50", "17"),
            ("ticks.late_ms_p99", "5000"),
            ("ticks.late_ms_max", "5000"),
            ("delivery.raw.ms_mean", "0.25"),
            ("delivery.raw.ms_p50", "0.25"),
            ("delivery.raw.ms_p99", "0.25"),
            ("delivery.eps.ms_mean", "1.5"),
            ("delivery.eps.ms_p50", "2.5"),
            ("delivery.eps.ms_p99", "2.5"),
            ("log.bytes", "120"),
            ("log.reach_sec", "119"),
            ("channels.open", "118"),
            ("source.up", "1"),
            ("source.losses", "123"),
            ("exchange.up", "0"),
            ("exchange.losses", "125"),
            ("memory.bytes", "124"),
            ("cpu.ms", "12340"),
            ("descriptors", "126"),
        ];
        assert_eq!(figures(&text, "key.web.1"), expected);
    }

    #[test]
    fn durations_cover_the_interval_only() {
        let before = example::totals();
        let mut totals = before.clone();
        // Observations after `before`, and the figures expected from them.
        let table: [(&[(u64, u64)], &[(&str, &str)]); 4] = [
            (&[], &[]),
            (
                &[(100, 1)],
                &[("mean", "0.1"), ("p50", "0.1"), ("p99", "0.1")],
            ),
            (
                &[(40, 99), (4_000, 1)],
                &[("mean", "0.079"), ("p50", "0.1"), ("p99", "0.1")],
            ),
            (
                &[(40, 98), (4_000, 2)],
                &[("mean", "0.119"), ("p50", "0.1"), ("p99", "5")],
            ),
        ];
        for (observations, expected) in table {
            totals.bus.delivery = before.bus.delivery.clone();
            for &(micros, times) in observations {
                let duration = std::time::Duration::from_micros(micros);
                totals.bus.delivery[Stream::Eps as usize].observe(duration, times);
            }
            let text = encoded("a", &example::snapshot(&totals), Some(&before.bus));
            let figures = figures(&text, "a");
            let of_eps = figures.iter().filter_map(|(path, value)| {
                let figure = path.strip_prefix("delivery.eps.ms_")?;
                Some((figure, *value))
            });
            assert_eq!(of_eps.collect::<Vec<_>>(), expected);
            let is_other = |path: &str| path.contains("_ms_") || path.starts_with("delivery.raw");
            assert!(!figures.iter().any(|(path, _)| is_other(path)), "{text}");
            assert!(figures.contains(&("messages.in", "106")), "totals stay");
        }
    }

    #[test]
    fn no_line_exceeds_the_maximum() {
        let most = u64::MAX;
        let mut totals = example::totals();
        totals.counters.closes = [most; CloseReason::ALL.len()];
        totals.counters.replay_refused = most;
        totals.bus.oversized = most;
        totals.bus.delivery = std::array::from_fn(|_| example::histogram(&[(most / 2, 2)]));
        totals.bus.tick_lateness = example::histogram(&[(most / 2, 2)]);
        let snapshot = Snapshot {
            reported_at: most,
            ..example::snapshot(&totals)
        };
        let mut out = Vec::new();
        encode(&mut out, &"a".repeat(ROOT_BYTES_MAX), &snapshot, None);
        let text = String::from_utf8(out).unwrap();
        let longest = text.split_inclusive('\n').map(str::len).max();
        let allowed = LINE_BYTES_MAX - 10..=LINE_BYTES_MAX;
        assert!(
            longest.is_some_and(|len| allowed.contains(&len)),
            "{longest:?}"
        );
    }

    #[test]
    fn paths_are_unique_and_none_is_a_prefix_of_another() {
        let mut totals = example::totals();
        totals.bus.delivery = std::array::from_fn(|_| example::histogram(&[(1, 1)]));
        let text = encoded("a", &example::snapshot(&totals), None);
        let figures = figures(&text, "a");
        for (index, (path, _)) in figures.iter().enumerate() {
            let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
            assert!(path.bytes().all(fit), "{path}");
            for (other, _) in &figures[index + 1..] {
                let is_above = |one: &str, two: &str| two.starts_with(&format!("{one}."));
                assert_ne!(path, other);
                assert!(
                    !is_above(path, other) && !is_above(other, path),
                    "{path}, {other}"
                );
            }
        }
    }

    #[test]
    fn other_characters_become_underscores() {
        let table = [
            ("web-1", "web-1", "web-1"),
            ("web.1", "web_1", "web.1"),
            (
                "my host.example.org",
                "my_host_example_org",
                "my_host.example.org",
            ),
            ("a\nb 1 2\r\n", "a_b_1_2__", "a_b_1_2__"),
            ("..a..b..", "__a__b__", "a.b"),
            ("h\u{f6}st/../x*", "h_st____x_", "h_st_._x_"),
            ("", "", ""),
        ];
        for (text, as_segment, as_path) in table {
            assert_eq!(segment(text), as_segment, "{text:?}");
            assert_eq!(path(text), as_path, "{text:?}");
        }
    }
}
