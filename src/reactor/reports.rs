//! Reports: who is told what, and when. It owns the beats of the row in Redis and of Graphite, and which
//! document a request gets; it must not encode one, which `report` does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::inquiry::Inquiry;
use super::{Feed, Reactor};
use crate::broker::Unanswered;
use crate::broker::demo;
use crate::broker::link::Link;
use crate::broker::redis::{Answer, Question, Subject};
use crate::engine::stats::SourceState;
use crate::engine::stats::bus;
use crate::engine::{Document, Key, Snapshot};
use crate::limits;
use crate::net::{Net, Token};
use crate::proto::reply::Reply;
use crate::report::carbon::Carbon;
use crate::report::cluster::Gathering;
use crate::report::recent::Recent;
use crate::report::{self, page, row, status};
use crate::time::Time;

/// What is reported to whom.
pub struct Reports {
    /// The live page as it begins where no broker knows the scores; empty where it is not shown.
    page: Arc<[u8]>,
    /// The admin page.
    admin: Arc<[u8]>,
    status: Recent,
    cluster: Inquiry,
    scores: Inquiry,
    /// What the broker said of all nodes and is being looked at.
    gathering: Option<Gathering>,
    row: Row,
    graphite: Option<Graphite>,
}

/// This node's row in Redis.
#[derive(Default)]
struct Row {
    due_at: Time,
    /// It was written.
    is_written: bool,
    /// It is gone, as far as we can tell.
    is_removed: bool,
}

/// What Graphite is told.
pub struct Graphite {
    link: Link<Carbon>,
    /// What stands before each name.
    root: String,
    due_at: Time,
    /// The counters that were told last.
    before: Option<bus::Counters>,
}

/// The names of our sockets, among those that we connect, begin with those of the feed.
const GRAPHITE: u8 = 2;

impl Graphite {
    /// Figures whose names begin with `root`, over this conversation.
    pub fn new(carbon: Carbon, root: String) -> Graphite {
        Graphite {
            link: Link::new(GRAPHITE, carbon),
            root,
            due_at: Time::ZERO + limits::GRAPHITE_INTERVAL,
            before: None,
        }
    }
}

impl Reports {
    /// Nothing is reported yet.
    pub fn new(page: Arc<[u8]>, graphite: Option<Graphite>) -> Reports {
        Reports {
            page,
            admin: report::admin::HTML.as_bytes().into(),
            status: Recent::default(),
            cluster: Inquiry::default(),
            scores: Inquiry::default(),
            gathering: None,
            row: Row {
                due_at: Time::ZERO + limits::REPORT_INTERVAL,
                ..Row::default()
            },
            graphite,
        }
    }

    /// The link of this name.
    pub fn link_of(&mut self, token: Token) -> Option<&mut Link<Carbon>> {
        let link = self.graphite.as_mut().map(|graphite| &mut graphite.link);
        link.filter(|link| link.token() == token)
    }

    fn inquiry(&mut self, subject: Subject) -> &mut Inquiry {
        match subject {
            Subject::Nodes | Subject::Row => &mut self.cluster,
            Subject::Scores => &mut self.scores,
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Does what is due.
    pub(super) fn report(&mut self) {
        self.write_row();
        self.send_figures();
        for subject in [Subject::Nodes, Subject::Scores] {
            let deadline = self.reports.inquiry(subject).deadline();
            if deadline.is_some_and(|at| at <= self.now) {
                self.on_answer(subject, Err(Unanswered::Late));
            }
        }
    }

    /// When something is due next.
    pub(super) fn report_deadline(&self) -> Option<Time> {
        let reports = &self.reports;
        let graphite = reports.graphite.as_ref();
        let deadlines = [
            self.has_row().then_some(reports.row.due_at),
            graphite.map(|graphite| graphite.due_at),
            graphite.and_then(|graphite| graphite.link.deadline()),
            reports.cluster.deadline(),
            reports.scores.deadline(),
            self.row_deadline().filter(|&at| at > self.now),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Makes a document, or has its client wait for what the broker says.
    pub(super) fn render(&mut self, key: Key, document: Document) {
        let reply = match document {
            Document::Health => report::probe_reply(Ok(())),
            Document::Readiness => report::probe_reply(self.readiness()),
            Document::Status => Reply::json(200, self.status()),
            Document::Metrics => report::metrics_reply(&self.snapshot(0)),
            Document::Channels => Reply::json(
                200,
                report::channels::encode(&self.engine.channels(usize::MAX)),
            ),
            Document::Admin => report::admin_reply(&self.reports.admin),
            Document::Cluster => return self.inquire(key, Subject::Nodes),
            Document::Page => return self.inquire(key, Subject::Scores),
        };
        self.engine.on_rendered(key, &self.guarded(document, reply));
    }

    /// The reply, which no other origin's page may read where its document is kept from others.
    fn guarded(&self, document: Document, reply: Reply) -> Reply {
        match document.is_private() && self.engine.settings().access.is_guarded() {
            true => reply.for_own_origin(),
            false => reply,
        }
    }

    /// The broker has answered, or never will. What comes after we have given it up, and belongs to nothing
    /// that is under way, is dropped.
    pub(super) fn on_answer(&mut self, subject: Subject, answer: Answer) {
        if self.reports.inquiry(subject).deadline().is_none() {
            return;
        }
        match (subject, answer) {
            (Subject::Nodes, Ok(names)) if self.reports.gathering.is_none() => {
                self.reports.gathering = Some(Gathering::new(names, self.net.unix_seconds()));
                self.gather();
            }
            (Subject::Row, Ok(rows)) => {
                if let Some(gathering) = &mut self.reports.gathering {
                    // A node that has gone meanwhile has none.
                    rows.iter().for_each(|row| gathering.add(row));
                    self.gather();
                }
            }
            (Subject::Nodes, Ok(_)) => {}
            (Subject::Nodes | Subject::Row, Err(unanswered)) => {
                self.reports.gathering = None;
                let (reply, age_max) = no_answer("redis", &unanswered);
                self.give_out(subject, reply, age_max);
            }
            (Subject::Scores, answer) => {
                let scores = answer.ok().map(|scores| page_with(&scores));
                let page = scores.as_ref().unwrap_or(&self.reports.page);
                let reply = report::page_reply(page);
                self.give_out(subject, reply, limits::SCORES_AGE_MAX);
            }
        }
    }

    /// Whether the end need not wait for Redis: our row is gone, or it has been waited for.
    pub(super) fn is_row_settled(&self) -> bool {
        let Feed::Redis { commands, .. } = &self.feed else {
            return true;
        };
        let row = &self.reports.row;
        let is_sent = row.is_removed && !commands.has_unsent();
        let is_none = !row.is_written && !commands.conversation().is_live();
        is_sent || is_none || self.row_deadline().is_none_or(|at| at <= self.net.now())
    }

    /// Whether the status goes to Redis: not without one, and not after our row was removed from it.
    fn has_row(&self) -> bool {
        let is_stopping = self.stopped_at.is_some();
        matches!(&self.feed, Feed::Redis { commands, .. } if commands.conversation().is_live())
            && !is_stopping
    }

    /// Until when the end waits for the row to go.
    fn row_deadline(&self) -> Option<Time> {
        self.stopped_at.map(|at| at + limits::ROW_REMOVAL_DEADLINE)
    }

    /// Writes the status to Redis, where the admin service reads that of all nodes, or removes it.
    fn write_row(&mut self) {
        if self.stopped_at.is_some() && !self.reports.row.is_removed {
            let node = self.engine.settings().node.clone();
            self.reports.row.is_removed = self.command(&row::remove(&node));
        }
        if !self.has_row() || self.reports.row.due_at > self.now {
            return;
        }
        self.reports.row.due_at = self.now.next_beat(limits::REPORT_INTERVAL);
        let (node, document) = (self.engine.settings().node.clone(), self.row());
        self.reports.row.is_written |= self.command(&row::write(&node, &document));
    }

    /// The status with as many connections as all nodes are told of.
    fn row(&self) -> Vec<u8> {
        let rows_max = self.engine.settings().reports.status_rows_max;
        status::encode(&self.snapshot(rows_max), limits::STATUS_BYTES_MAX)
    }

    /// Sends figures to Graphite.
    fn send_figures(&mut self) {
        let now = self.now;
        if let Some(Graphite { link, .. }) = &mut self.reports.graphite {
            // The daemon says nothing. Its end is read all the same, and first: it says that what was sent
            // last may not have been taken. One read a turn, because whoever does say something is
            // somebody else, and must not hold the turn.
            link.read(&mut self.net, &mut self.buffer, now);
        }
        let is_due = |graphite: &Graphite| graphite.due_at <= now;
        if self.reports.graphite.as_ref().is_some_and(is_due)
            && let Some(mut graphite) = self.reports.graphite.take()
        {
            graphite.due_at = now.next_beat(limits::GRAPHITE_INTERVAL);
            let mut lines = Vec::new();
            let snapshot = self.snapshot(0);
            let before = graphite.before.as_ref();
            report::graphite::encode(&mut lines, &graphite.root, &snapshot, before);
            graphite.before = Some(snapshot.bus.clone());
            let channels = self
                .engine
                .channels(self.engine.settings().reports.channel_stats_max);
            let at = self.net.unix_seconds();
            report::graphite::encode_channels(&mut lines, &graphite.root, &channels, at);
            graphite.link.conversation_mut().send(&lines, now);
            self.reports.graphite = Some(graphite);
        }
        if let Some(Graphite { link, .. }) = &mut self.reports.graphite {
            link.serve(&mut self.net, now);
        }
    }

    /// Asks for the next node's row, or shows what was gathered. One row comes a turn: to look at one may take
    /// some milliseconds.
    fn gather(&mut self) {
        let Some(gathering) = &mut self.reports.gathering else {
            return;
        };
        if let Some(name) = gathering.next_name() {
            self.reports.cluster.renew(self.now);
            self.ask(Subject::Row, &row::read(&name));
        } else if let Some(gathering) = self.reports.gathering.take() {
            let reply = Reply::json(200, gathering.encode());
            self.give_out(Subject::Nodes, reply, limits::CLUSTER_AGE_MAX);
        }
    }

    /// Asks the broker, or answers at once where there is none.
    fn ask(&mut self, subject: Subject, command: &[&[u8]]) {
        let is_asked = match &mut self.feed {
            Feed::Redis { commands, .. } => commands
                .conversation_mut()
                .ask(Question::Report(subject), command),
            Feed::Demo(_) | Feed::Embedded => false,
        };
        if !is_asked {
            self.on_answer(subject, Err(Unanswered::Lost));
        }
    }

    fn give_out(&mut self, subject: Subject, reply: Reply, age_max: Duration) {
        let reply = match subject {
            Subject::Nodes | Subject::Row => self.guarded(Document::Cluster, reply),
            Subject::Scores => reply,
        };
        let inquiry = self.reports.inquiry(subject);
        for key in inquiry.answer(reply.clone(), age_max, self.now) {
            self.engine.on_rendered(key, &reply);
        }
    }

    /// Answers with what the broker says, or said a moment ago.
    fn inquire(&mut self, key: Key, subject: Subject) {
        let now = self.now;
        let inquiry = self.reports.inquiry(subject);
        if let Some(reply) = inquiry.fresh(now).cloned() {
            return self.engine.on_rendered(key, &reply);
        }
        if !inquiry.wait(key, now) {
            return;
        }
        match (&self.feed, subject) {
            // This node is all nodes.
            (Feed::Demo(_) | Feed::Embedded, Subject::Nodes | Subject::Row) => {
                let alone = Gathering::alone(&self.row(), self.net.unix_seconds());
                let reply = Reply::json(200, alone.encode());
                self.give_out(subject, reply, limits::CLUSTER_AGE_MAX);
            }
            (Feed::Redis { .. }, Subject::Nodes | Subject::Row) => {
                self.ask(subject, &row::names());
            }
            (_, Subject::Scores) => self.ask(subject, &page::read_scores()),
        }
    }

    /// The status with all connections, shared with those who asked for it just before.
    fn status(&mut self) -> Arc<[u8]> {
        let (counters, now) = (self.engine.counters(), self.now);
        let comings_and_goings = counters.subscribed + counters.closes.iter().sum::<u64>();
        if let Some(document) = self.reports.status.get(comings_and_goings, now) {
            return document;
        }
        let document = status::encode(&self.snapshot(usize::MAX), usize::MAX);
        self.reports.status.put(comings_and_goings, now, document)
    }

    fn snapshot(&self, rows_max: usize) -> Snapshot<'_> {
        let source = source_state(&self.feed, self.now);
        let (exchange, process) = (self.exchange.state(self.now), self.net.process());
        self.engine.snapshot(rows_max, source, exchange, process)
    }
}

fn source_state(feed: &Feed, now: Time) -> SourceState<'_> {
    match feed {
        Feed::Redis { messages, .. } => {
            let session = messages.conversation();
            SourceState {
                kind: "redis",
                is_live: session.is_live(),
                since: now.since(session.since()),
                place: session.place(),
                losses: session.losses(),
            }
        }
        Feed::Demo(_) => state_of_own("demo", now),
        Feed::Embedded => state_of_own("embedded", now),
    }
}

/// The state of a source that is a part of us.
fn state_of_own(kind: &'static str, now: Time) -> SourceState<'static> {
    SourceState {
        kind,
        is_live: true,
        since: now.since(Time::ZERO),
        place: "",
        losses: 0,
    }
}

/// What is said where the broker has not answered, and for how long.
pub(super) fn no_answer(broker: &str, unanswered: &Unanswered) -> (Reply, Duration) {
    let (words, again_in) = match unanswered {
        Unanswered::Refused(words) => (format!("{broker} refuses: {words}"), limits::REFUSAL_RETRY),
        Unanswered::Lost => (
            format!("there is no connection to {broker}"),
            limits::ANSWER_RETRY,
        ),
        Unanswered::Full => (
            format!("{broker} does not take so much at a time"),
            limits::ANSWER_RETRY,
        ),
        Unanswered::Late => (format!("{broker} does not answer"), limits::ANSWER_RETRY),
    };
    let extra = format!("Retry-After: {}\r\n", again_in.as_secs()).into();
    let reply = Reply {
        extra,
        ..Reply::error(503, &words)
    };
    (reply, again_in)
}

/// The live page with the broker's scores.
fn page_with(scores: &[Vec<u8>]) -> Arc<[u8]> {
    let names: HashMap<&str, &str> = demo::emoji().map(|(id, _, name)| (id, name)).collect();
    let rows = scores.chunks_exact(2).filter_map(|pair| {
        let [id, score] = pair else { return None };
        let id = std::str::from_utf8(id).ok()?;
        // A sorted set's scores are floating-point numbers.
        let score: f64 = std::str::from_utf8(score).ok()?.parse().ok()?;
        Some((id, score as u64, names.get(id).copied().unwrap_or_default()))
    });
    page::render(rows).into()
}
