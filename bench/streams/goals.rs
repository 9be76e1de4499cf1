//! Goals: what this server should achieve, next to what was measured. It owns the bounds; the workloads own the
//! measurements.

use crate::report::Report;
use crate::servers::Server;

/// A promise, as far as the run could show it.
pub struct Goal {
    /// What is promised.
    pub what: String,
    /// The bound, in words.
    pub bound: String,
    /// What was measured.
    pub measured: f64,
    /// Whether that is within the bound.
    pub is_met: bool,
}

/// The wake-ups that Redis costs each second: one to send and one for the answer of a report every five seconds; and every
/// two seconds one to send a sign of life over both connections, and one for each answer.
const REDIS_WAKEUPS: f64 = 1.9;

/// Of those, what may fall into ten seconds by chance.
const REDIS_WAKEUPS_CHANCE: f64 = 0.2;

/// How much further from the floor other numbers of clients may be.
const SPREAD: f64 = 1.15;

/// The goals that this run has figures for.
pub fn all(report: &Report) -> Vec<Goal> {
    let mut goals = Goals {
        report,
        list: Vec::new(),
    };
    goals.costs();
    goals.latency();
    goals.rest();
    goals.overload();
    goals.cheapest();
    goals.exact();
    goals.list
}

struct Goals<'a> {
    report: &'a Report,
    list: Vec<Goal>,
}

impl Goals<'_> {
    fn costs(&mut self) {
        for server in [Server::Redis, Server::Demo] {
            let name = server.name();
            let ratio = |workload| self.report.get(workload, server, "ratio");
            let thousand = ratio("eps-1000");
            let others = [
                ("eps-100", ratio("eps-100")),
                ("eps-15000", ratio("eps-15000")),
            ];
            let raw = ratio("raw-10000");
            let channel = ratio("channel");
            let details = ratio("details");
            self.at_most(
                &format!("eps-1000 {name}: CPU per event, × floor"),
                thousand,
                1.10,
            );
            for (workload, ratio) in others {
                let what = format!("{workload} {name}: the same, × that of eps-1000");
                let change = ratio
                    .zip(thousand)
                    .map(|(ratio, thousand)| ratio / thousand);
                self.at_most(&what, change, SPREAD);
            }
            // As many events to as many clients as there are ticks.
            let change = channel.zip(thousand).map(|(channel, eps)| channel / eps);
            self.at_most(
                "channel redis: the same, × that of eps-1000",
                change,
                SPREAD,
            );
            self.at_most(
                &format!("raw-10000 {name}: CPU per event, × floor"),
                raw,
                0.25,
            );
            self.at_most(
                &format!("details {name}: CPU per event, × floor"),
                details,
                2.0,
            );
        }
    }

    fn latency(&mut self) {
        let bounds = [("p50_us", 300.0), ("p99_us", 2_000.0)];
        for (name, bound) in bounds {
            let measured = self.report.get("details", Server::Redis, name);
            self.at_most(
                &format!("details: {name} from PUBLISH to the client"),
                measured,
                bound,
            );
            self.below_peers("details", name);
        }
    }

    fn rest(&mut self) {
        let get = |workload, server, name| self.report.get(workload, server, name);
        let idle = get("rest-15000", Server::Redis, "bytes_per_client");
        let silent = get("rest-0", Server::Demo, "wakeups_per_second");
        let woken = get("rest-15000", Server::Redis, "wakeups_per_second");
        let grown = get("stall", Server::Redis, "stalled_mb");
        let size = get("start", Server::Redis, "program_mb");
        let start = get("start", Server::Redis, "start_ms");
        self.at_most("resident bytes of an idle client", idle, 700.0);
        self.at_most("wake-ups a second without clients", silent, 0.0);
        let beyond = woken.map(|woken| (woken - REDIS_WAKEUPS).max(0.0));
        let what = "wake-ups a second with 15000 idle clients, beyond those for Redis";
        self.at_most(what, beyond, REDIS_WAKEUPS_CHANCE);
        self.at_most("growth while 100 of 1000 clients stall, in MB", grown, 2.0);
        self.at_most("size of the program, in MB", size, 1.6);
        self.at_most("from the start to the first answer, in ms", start, 10.0);
    }

    fn overload(&mut self) {
        for server in [Server::Redis, Server::Demo] {
            let name = server.name();
            let get = |figure| self.report.get("eps-15000", server, figure);
            let (share, accept) = (get("worst_client_share"), get("accept_ms"));
            let status = get("status_ms");
            let what = format!("eps-15000 {name}: events of the worst client, × those of the best");
            self.at_least(&what, share, 0.9);
            self.at_most(
                &format!("eps-15000 {name}: ms to accept and answer"),
                accept,
                250.0,
            );
            let what = format!("eps-15000 {name}: ms to answer status.json");
            self.at_most(&what, status, 250.0);
        }
    }

    /// Nobody in the run fans out for less, the floor aside. With 15,000 clients nobody keeps up: then a
    /// server that sends the events of seconds in one write is cheap for each, and latency tells.
    fn cheapest(&mut self) {
        for workload in ["eps-1000", "raw-1000", "raw-10000", "details"] {
            self.below_peers(workload, "cpu_us_per_event");
        }
        self.below_peers("eps-15000", "p50_us");
    }

    /// That a figure is below those of all peers that delivered everything: to lose events is cheap.
    fn below_peers(&mut self, workload: &str, name: &str) {
        let peers = Server::ALL.into_iter().filter(|server| server.is_peer());
        let best = peers
            .filter(|peer| self.report.is_whole(workload, *peer))
            .filter_map(|peer| self.report.get(workload, peer, name))
            .fold(f64::INFINITY, f64::min);
        if best.is_finite() {
            let measured = self.report.get(workload, Server::Redis, name);
            self.at_most(
                &format!("{workload}: {name}, below every peer's"),
                measured,
                best,
            );
        }
    }

    fn exact(&mut self) {
        for server in [Server::Redis, Server::Demo] {
            if let Some(wrong) = self.report.wrong(server) {
                let what = format!(
                    "{}: wrong or missing events, in all workloads",
                    server.name()
                );
                self.at_most(&what, Some(wrong as f64), 0.0);
            }
        }
    }

    fn at_most(&mut self, what: &str, measured: Option<f64>, bound: f64) {
        self.push(what, measured, format!("≤ {bound:.2}"), |measured| {
            measured <= bound
        });
    }

    fn at_least(&mut self, what: &str, measured: Option<f64>, bound: f64) {
        self.push(what, measured, format!("≥ {bound:.2}"), |measured| {
            measured >= bound
        });
    }

    fn push(
        &mut self,
        what: &str,
        measured: Option<f64>,
        bound: String,
        is_met: impl FnOnce(f64) -> bool,
    ) {
        if let Some(measured) = measured {
            // As exact as it is shown.
            let measured = (measured * 100.0).round() / 100.0;
            self.list.push(Goal {
                what: what.to_owned(),
                bound,
                measured,
                is_met: is_met(measured),
            });
        }
    }
}
