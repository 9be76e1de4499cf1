//! Metrics: encodes what Prometheus scrapes, in its text format 0.0.4. It owns the names and help texts of the metrics.
//! A label must not have values that clients choose, because each new value creates a time series in Prometheus.

use std::fmt::Display;
use std::io::Write;

use super::{closes, decimal, dropped, totals};
use crate::server::stats::{Histogram, Snapshot, Stream, bus};

/// The `Content-Type` of the document.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The prefix of all metrics but those of the process, whose names are the same for every program.
const PREFIX: &str = "emojitrack_streamer_";

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// Encodes the document: some 12 KB, independent of the number of clients. All counters are present from the start, as
/// zero, so that their first increment is visible as a change.
pub fn encode(snapshot: &Snapshot<'_>) -> Vec<u8> {
    let mut document = Document {
        out: Vec::with_capacity(16 * 1024),
        prefix: PREFIX,
        name: String::new(),
    };
    state(&mut document, snapshot);
    traffic(&mut document, snapshot);
    durations(&mut document, snapshot.bus);
    document.prefix = "process_";
    process(&mut document, snapshot);
    document.out
}

/// The version, the sources and the log.
fn state(document: &mut Document, snapshot: &Snapshot<'_>) {
    let version = concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    document.sample(
        GAUGE,
        version,
        "Version of the server; the value is always 1.",
        1,
    );
    let sources = || [&snapshot.source].into_iter().chain(&snapshot.exchange);
    for source in sources() {
        let series = format!("source_up{{source=\"{}\"}}", source.kind);
        let help = "Whether the source is connected: 1 or 0.";
        document.sample(GAUGE, &series, help, u8::from(source.is_live));
    }
    for source in sources() {
        let series = format!("source_losses_total{{source=\"{}\"}}", source.kind);
        let help = "Times that the connection to the source was lost.";
        document.sample(COUNTER, &series, help, source.losses);
    }
    let log = &snapshot.log;
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
        document.sample(GAUGE, name, help, value);
    }
}

fn traffic(document: &mut Document, snapshot: &Snapshot<'_>) {
    for (_, series, help, _, value) in totals(snapshot) {
        document.sample(COUNTER, series, help, value);
    }
    for (stream, count) in Stream::ALL.into_iter().zip(snapshot.streams) {
        let series = format!("subscribers{{stream=\"{}\"}}", stream.segment());
        document.sample(GAUGE, &series, "Open streams.", count);
    }
    for (reason, count) in closes(snapshot) {
        let series = format!("connections_closed_total{{reason=\"{reason}\"}}");
        document.sample(
            COUNTER,
            &series,
            "Streams ended, and connections without one closed, by reason.",
            count,
        );
    }
    for (cause, count) in dropped(snapshot) {
        let series = format!("messages_dropped_total{{cause=\"{cause}\"}}");
        document.sample(COUNTER, &series, "Messages dropped, by cause.", count);
    }
}

fn durations(document: &mut Document, counters: &bus::Counters) {
    let name = "tick_lateness_seconds";
    document.histogram(name, "How late ticks were.", "", &counters.tick_lateness);
    for (stream, times) in Stream::ALL.into_iter().zip(&counters.delivery) {
        let help = "Time from the arrival of a message to the last write of its pass, by stream.";
        let label = format!("stream=\"{}\"", stream.segment());
        document.histogram("delivery_seconds", help, &label, times);
    }
}

/// The standard process metrics of Prometheus client libraries. As in those, a figure that the operating system does
/// not provide is left out.
fn process(document: &mut Document, snapshot: &Snapshot<'_>) {
    let process = &snapshot.process;
    #[rustfmt::skip]
    let gauges = [
        ("start_time_seconds", "Start time of the process since unix epoch in seconds.", snapshot.startup_time),
        ("resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
        ("open_fds", "Number of open file descriptors.", process.descriptors),
        ("max_fds", "Maximum number of open file descriptors.", process.descriptors_max),
    ];
    for (name, help, value) in gauges.into_iter().filter(|(.., value)| *value > 0) {
        document.sample(GAUGE, name, help, value);
    }
    // A CPU time of zero may be correct; it is known whenever the memory is.
    if process.resident_bytes > 0 {
        let cpu = decimal(process.cpu.as_micros() as u64, 6);
        let help = "Total user and system CPU time spent in seconds.";
        document.sample(COUNTER, "cpu_seconds_total", help, cpu);
    }
}

/// A document under construction. The samples of a metric must be contiguous. Values of labels are constants of this
/// program without quotes or backslashes, so that none has to be escaped.
struct Document {
    out: Vec<u8>,
    prefix: &'static str,
    /// The metric being written.
    name: String,
}

impl Document {
    /// Begins a metric, unless it is the one being written. `help` must not contain backslashes or line ends.
    fn begin(&mut self, kind: &str, name: &str, help: &str) {
        if self.name != name {
            let full = format!("{}{name}", self.prefix);
            let _infallible = writeln!(self.out, "# HELP {full} {help}\n# TYPE {full} {kind}");
            name.clone_into(&mut self.name);
        }
    }

    /// `series` is the name of a metric, perhaps with labels in braces.
    fn sample(&mut self, kind: &str, series: &str, help: &str, value: impl Display) {
        let (name, _) = series.split_once('{').unwrap_or((series, ""));
        self.begin(kind, name, help);
        self.line(series, value);
    }

    /// Writes cumulative buckets, with bounds and sum in seconds.
    fn histogram(&mut self, name: &str, help: &str, label: &str, histogram: &Histogram) {
        self.begin("histogram", name, help);
        let (comma, labels) = match label {
            "" => ("", String::new()),
            _ => (",", format!("{{{label}}}")),
        };
        let bounds = Histogram::BOUNDS_US.map(|bound| decimal(bound, 6));
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        let mut so_far = 0;
        for (bound, count) in bounds.zip(histogram.counts()) {
            so_far += count;
            let series = format!("{name}_bucket{{{label}{comma}le=\"{bound}\"}}");
            self.line(&series, so_far);
        }
        self.line(
            &format!("{name}_sum{labels}"),
            decimal(histogram.sum_us(), 6),
        );
        self.line(&format!("{name}_count{labels}"), so_far);
    }

    fn line(&mut self, series: &str, value: impl Display) {
        let _infallible = writeln!(self.out, "{}{series} {value}", self.prefix);
    }
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
            ("auth_failures_total", "118"),
            ("ticks_total", "116"),
            (r#"subscribers{stream="raw"}"#, "2"),
            (r#"subscribers{stream="eps"}"#, "7"),
            (r#"subscribers{stream="details"}"#, "5"),
            (r#"subscribers{stream="kiosk_interaction"}"#, "3"),
            (r#"connections_closed_total{reason="client"}"#, "200"),
            (r#"connections_closed_total{reason="failure"}"#, "212"),
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
        assert!(!text.contains('\\'), "nothing needs to be escaped");
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
