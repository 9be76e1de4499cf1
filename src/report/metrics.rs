//! Metrics: encodes what Prometheus scrapes, in its text format 0.0.4. It owns the names and help texts of the metrics.
//! A label must not have values that clients choose, because each new value creates a time series in Prometheus.

use std::fmt::Display;
use std::io::Write;

use super::decimal::Millionths;
use super::dropped;
use crate::server::stats::{CloseReason, Histogram, Snapshot, Stream, bus};

/// The `Content-Type` of the document.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Encodes the document: some 12 KB, independent of the number of clients. All counters are present from the start, as
/// zero, so that their first increment is visible as a change.
pub fn encode(snapshot: &Snapshot<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * 1024);
    state(&mut out, snapshot);
    traffic(&mut out, snapshot);
    divided(&mut out, snapshot);
    durations(&mut out, snapshot.bus);
    process(&mut out, snapshot);
    out
}

/// The prefix of all metrics but those of the process, whose names are the same for every program.
const PREFIX: &str = "emojitrack_streamer_";

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The version and the state of the sources.
fn state(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let help = "Version of the server; the value is always 1.";
    family(out, Kind::Gauge, PREFIX, "build_info", help).sample(&version, 1);
    let sources = || [&snapshot.source].into_iter().chain(&snapshot.exchange);
    let help = "Whether the source is connected: 1 or 0.";
    let mut up = family(out, Kind::Gauge, PREFIX, "source_up", help);
    for source in sources() {
        up.sample(&[("source", source.kind)], u8::from(source.is_live));
    }
    let help = "Times that the connection to the source was lost.";
    let mut losses = family(out, Kind::Counter, PREFIX, "source_losses_total", help);
    for source in sources() {
        losses.sample(&[("source", source.kind)], source.losses);
    }
}

/// Metrics without labels.
fn traffic(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    let Snapshot {
        counters, bus, log, ..
    } = snapshot;
    #[rustfmt::skip]
    let gauges = [
        ("sockets_open", "Open client connections, with or without a stream.", snapshot.sockets),
        ("log_bytes", "Memory used by the message log, in bytes.", log.bytes),
        ("log_max_bytes", "Maximum size of the message log, in bytes.", log.bytes_max),
        ("log_frames", "Messages in the log.", log.messages),
        ("log_reach_seconds", "Age of the oldest message in the log.", log.reach.as_secs() as usize),
        ("channels", "Channels in demand from the source.", snapshot.channels),
    ];
    for (name, help, value) in gauges {
        family(out, Kind::Gauge, PREFIX, name, help).sample(&[], value);
    }
    #[rustfmt::skip]
    let totals = [
        ("connections_accepted_total", "Connections accepted.", counters.accepted),
        ("subscriptions_total", "Subscriptions accepted.", counters.subscribed),
        ("subscriptions_shed_total", "Subscriptions shed because a limit was reached.", counters.shed),
        ("messages_received_total", "Messages received from the source.", counters.messages_in),
        ("frames_total", "Messages that had subscribers, plus ticks.", bus.kept),
        ("events_sent_total", "Events sent, summed over all clients.", counters.events_out),
        ("bytes_sent_total", "Bytes sent to clients.", counters.bytes_out),
        ("conflations_total", "Events that sum up several ticks for a client that was behind.", bus.conflations),
        ("publications_total", "Publications accepted from clients.", counters.published),
        ("ticks_total", "Ticks that had something to send.", bus.ticks),
    ];
    for (name, help, value) in totals {
        family(out, Kind::Counter, PREFIX, name, help).sample(&[], value);
    }
}

/// Metrics with labels.
fn divided(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    let counters = snapshot.counters;
    let mut subscribers = family(out, Kind::Gauge, PREFIX, "subscribers", "Open streams.");
    for (stream, count) in Stream::ALL.into_iter().zip(snapshot.streams) {
        subscribers.sample(&[("stream", stream.segment())], count);
    }
    let help = "Clients that reconnected with an event id, by whether the replay was possible.";
    let mut replays = family(out, Kind::Counter, PREFIX, "replays_total", help);
    replays.sample(&[("result", "served")], counters.replayed);
    replays.sample(&[("result", "refused")], counters.replay_refused);
    let help = "Connections closed, by reason.";
    let mut closed = family(out, Kind::Counter, PREFIX, "connections_closed_total", help);
    for (reason, count) in CloseReason::ALL.into_iter().zip(counters.closes) {
        closed.sample(&[("reason", reason.name())], count);
    }
    let help = "Messages dropped, by cause.";
    let mut dropped_messages = family(out, Kind::Counter, PREFIX, "messages_dropped_total", help);
    for (cause, count) in dropped(snapshot) {
        dropped_messages.sample(&[("cause", cause)], count);
    }
}

fn durations(out: &mut Vec<u8>, counters: &bus::Counters) {
    let help = "How late ticks were.";
    let name = "tick_lateness_seconds";
    family(out, Kind::Histogram, PREFIX, name, help).histogram(None, &counters.tick_lateness);
    let help = "Time from the arrival of a message to the last write of its pass, by stream.";
    let mut delivery = family(out, Kind::Histogram, PREFIX, "delivery_seconds", help);
    for (stream, times) in Stream::ALL.into_iter().zip(&counters.delivery) {
        delivery.histogram(Some(("stream", stream.segment())), times);
    }
}

/// The standard process metrics of Prometheus client libraries. As in those, a figure that the operating system does
/// not provide is left out.
fn process(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    let process = &snapshot.process;
    #[rustfmt::skip]
    let gauges = [
        ("start_time_seconds", "Start time of the process since unix epoch in seconds.", snapshot.startup_time),
        ("resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
        ("open_fds", "Number of open file descriptors.", process.descriptors),
        ("max_fds", "Maximum number of open file descriptors.", process.descriptors_max),
    ];
    for (name, help, value) in gauges {
        if value > 0 {
            family(out, Kind::Gauge, "process_", name, help).sample(&[], value);
        }
    }
    // A CPU time of zero may be correct; it is known whenever the memory is.
    if process.resident_bytes > 0 {
        let cpu = Millionths(process.cpu.as_micros() as u64);
        let help = "Total user and system CPU time spent in seconds.";
        family(out, Kind::Counter, "process_", "cpu_seconds_total", help).sample(&[], cpu);
    }
}

/// The metric being written. It borrows the document, because the samples of a metric must be contiguous.
struct Family<'a> {
    out: &'a mut Vec<u8>,
    prefix: &'a str,
    name: &'a str,
}

/// Begins a metric family. `help` must not contain backslashes or line ends.
fn family<'a>(
    out: &'a mut Vec<u8>,
    kind: Kind,
    prefix: &'a str,
    name: &'a str,
    help: &str,
) -> Family<'a> {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let _infallible = write!(
        out,
        "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n"
    );
    Family { out, prefix, name }
}

/// Name and value of a label.
type Label<'a> = (&'a str, &'a str);

impl Family<'_> {
    fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, value);
    }

    /// Writes cumulative buckets, with bounds and sum in seconds.
    fn histogram(&mut self, label: Option<Label<'_>>, histogram: &Histogram) {
        let own = label.as_slice();
        let bounds = Histogram::BOUNDS_US.map(|bound| Millionths(bound).to_string());
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        let mut so_far = 0;
        for (bound, count) in bounds.zip(histogram.counts()) {
            so_far += count;
            self.line("_bucket", &[own, &[("le", bound)]].concat(), so_far);
        }
        self.line("_sum", own, Millionths(histogram.sum_us()));
        self.line("_count", own, so_far);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        let Family { out, prefix, name } = self;
        let _infallible = write!(out, "{prefix}{name}{suffix}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _infallible = write!(out, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(out, "{after} {value}");
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::report::example;
    use crate::server::stats::Process;

    fn encoded(snapshot: &Snapshot<'_>) -> String {
        String::from_utf8(encode(snapshot)).unwrap()
    }

    #[test]
    fn each_figure_has_its_name() {
        let totals = example::totals();
        let text = encoded(&example::snapshot(&totals));
        let own = [
            (r#"source_up{source="redis"}"#, "1"),
            (r#"source_losses_total{source="redis"}"#, "123"),
            (r#"source_up{source="amqp"}"#, "0"),
            (r#"source_losses_total{source="amqp"}"#, "125"),
            ("sockets_open", "19"),
            ("connections_accepted_total", "101"),
            ("subscriptions_total", "102"),
            ("subscriptions_shed_total", "103"),
            (r#"replays_total{result="served"}"#, "104"),
            (r#"replays_total{result="refused"}"#, "105"),
            ("messages_received_total", "106"),
            ("frames_total", "111"),
            ("events_sent_total", "113"),
            ("bytes_sent_total", "18446744073709551615"),
            ("conflations_total", "115"),
            ("publications_total", "117"),
            ("ticks_total", "116"),
            (r#"subscribers{stream="raw"}"#, "2"),
            (r#"subscribers{stream="eps"}"#, "7"),
            (r#"subscribers{stream="details"}"#, "5"),
            (r#"subscribers{stream="kiosk_interaction"}"#, "3"),
            (r#"connections_closed_total{reason="client"}"#, "200"),
            (r#"connections_closed_total{reason="failure"}"#, "211"),
            (r#"messages_dropped_total{cause="encoding"}"#, "107"),
            (r#"messages_dropped_total{cause="channel"}"#, "108"),
            (r#"messages_dropped_total{cause="oversized"}"#, "109"),
            (r#"messages_dropped_total{cause="unknown"}"#, "110"),
            (r#"messages_dropped_total{cause="relay"}"#, "112"),
            ("log_bytes", "120"),
            ("log_max_bytes", "121"),
            ("log_frames", "122"),
            ("log_reach_seconds", "119"),
            ("channels", "118"),
            (r#"subscribers{stream="channels"}"#, "4"),
        ];
        for (sample, value) in own {
            let line = format!("\n{PREFIX}{sample} {value}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
        let of_the_process = [
            ("resident_memory_bytes", "124"),
            ("cpu_seconds_total", "12.34"),
            ("start_time_seconds", "1700000000"),
            ("open_fds", "126"),
            ("max_fds", "127"),
        ];
        for (name, value) in of_the_process {
            let line = format!("\nprocess_{name} {value}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }

    #[test]
    fn buckets_are_cumulative() {
        let totals = example::totals();
        let text = encoded(&example::snapshot(&totals));
        let family = r#"# HELP emojitrack_streamer_tick_lateness_seconds How late ticks were.
# TYPE emojitrack_streamer_tick_lateness_seconds histogram
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.0001"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.00025"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.0005"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.001"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.0025"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.005"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.01"} 2
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.017"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.025"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.05"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.1"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="0.25"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="1"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="5"} 5
emojitrack_streamer_tick_lateness_seconds_bucket{le="+Inf"} 6
emojitrack_streamer_tick_lateness_seconds_sum 6.051201
emojitrack_streamer_tick_lateness_seconds_count 6
"#;
        assert!(text.contains(family), "{text}");
        let name = "emojitrack_streamer_delivery_seconds";
        for line in [
            r#"_bucket{stream="eps",le="0.001"} 0"#,
            r#"_bucket{stream="eps",le="0.0025"} 4"#,
            r#"_bucket{stream="eps",le="+Inf"} 4"#,
            r#"_sum{stream="eps"} 0.006"#,
            r#"_count{stream="eps"} 4"#,
            r#"_sum{stream="details"} 0"#,
        ] {
            assert!(text.contains(&format!("\n{name}{line}\n")), "{line}");
        }
    }

    /// The families of a document in order: name, kind and samples.
    fn families(text: &str) -> Vec<(&str, &str, Vec<&str>)> {
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
        let mut families = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line.strip_prefix("# HELP ").unwrap();
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') || help.contains("; "), "{help}");
            assert!(!help.contains('\\'), "{help}");
            let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            let kind = kind.strip_prefix(name).unwrap().trim_start();
            let samples = std::iter::from_fn(|| lines.next_if(|line| !line.starts_with('#')));
            families.push((name, kind, samples.collect()));
        }
        families
    }

    #[test]
    fn each_family_is_declared_once_and_contiguous() {
        let totals = example::totals();
        let text = encoded(&example::snapshot(&totals));
        let mut names = BTreeSet::new();
        for (name, kind, samples) in families(&text) {
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(!samples.is_empty(), "{name}");
            let suffixes: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let mut seen = BTreeMap::new();
            for sample in samples {
                let (series, value) = sample.rsplit_once(' ').unwrap();
                let of = series.split('{').next().unwrap();
                let suffix = of.strip_prefix(name).unwrap();
                assert!(suffixes.contains(&suffix), "{sample} in {name}");
                assert!(
                    value
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || byte == b'.')
                );
                assert_eq!(seen.insert(series, value), None, "{series} is there twice");
            }
        }
        assert!(names.len() > 20, "{names:?}");
    }

    #[test]
    fn labels_do_not_depend_on_clients() {
        let mut totals = example::totals();
        totals.counters.accepted = 1;
        let mut snapshot = example::snapshot(&totals);
        let few = encoded(&snapshot);
        snapshot.node = "another\"node";
        snapshot.source.place = "redis://elsewhere";
        snapshot.connections_total = 20_000;
        assert_eq!(few, encoded(&snapshot), "what clients choose is not in it");
        let labels: BTreeSet<&str> = few
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('{'))
            .flat_map(|(_, labels)| labels.split(','))
            .filter_map(|label| label.split('=').next())
            .collect();
        let expected = [
            "cause", "le", "reason", "result", "source", "stream", "version",
        ];
        assert_eq!(labels, BTreeSet::from(expected));
    }

    #[test]
    fn labels_are_escaped() {
        let table = [
            ("plain", "plain"),
            ("a\"b", "a\\\"b"),
            ("a\\b", "a\\\\b"),
            ("a\\\nb", "a\\\\\\nb"),
            ("h\u{f6}", "h\u{f6}"),
        ];
        for (text, expected) in table {
            let mut out = Vec::new();
            family(&mut out, Kind::Gauge, "a_", "b", "c").sample(&[("d", text)], 1);
            let document = String::from_utf8(out).unwrap();
            let sample = format!("# HELP a_b c\n# TYPE a_b gauge\na_b{{d=\"{expected}\"}} 1\n");
            assert_eq!(document, sample);
        }
    }

    #[test]
    fn unknown_process_figures_are_left_out() {
        let totals = example::Totals::default();
        let mut snapshot = example::snapshot(&totals);
        snapshot.process = Process::default();
        let text = encoded(&snapshot);
        let names: Vec<&str> = families(&text).into_iter().map(|(name, ..)| name).collect();
        let of_the_process = names.iter().filter(|name| name.starts_with("process_"));
        assert_eq!(
            of_the_process.collect::<Vec<_>>(),
            [&"process_start_time_seconds"]
        );
        assert!(text.contains("connections_closed_total{reason=\"slow\"} 0\n"));
    }
}
