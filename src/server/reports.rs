//! Reports: which document a request gets, and when this node's row and Graphite's figures are sent. It owns who waits for
//! an answer of the broker; it must not encode a document, which `report` does.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::route::Document;
use super::waiters::Waiters;
use super::{Server, Snapshot, rows};
use crate::broker::{Brokers, Command, Inquiry, Store, Unanswered, demo};
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::net::{Net, Token};
use crate::report::carbon::Figures;
use crate::report::cluster::Gathering;
use crate::report::recent::Recent;
use crate::report::row::{Due, Row};
use crate::report::{self, page, status};
use crate::time::Time;

/// What reports are made from, at one moment.
pub struct Desk<'a, N: Net> {
    /// The network, which knows the wall clock and the process's resources.
    pub net: &'a N,
    /// The server.
    pub server: &'a Server,
    /// The brokers.
    pub brokers: &'a mut Brokers<N>,
    /// The time of the turn.
    pub now: Time,
}

impl<N: Net> Desk<'_, N> {
    /// The current state, with the oldest `rows_max` subscribers.
    fn snapshot(&self, rows_max: usize) -> Snapshot<'_> {
        let (source, channels) = self.brokers.states(self.now);
        let process = self.net.process();
        self.server.snapshot(rows_max, source, channels, process)
    }
}

/// What is reported to whom.
pub struct Reports {
    /// The live page with which it starts if no broker knows the scores; empty if it is disabled.
    page: Arc<[u8]>,
    /// The admin page.
    admin: Arc<[u8]>,
    status: Recent,
    metrics: Recent,
    channels: Recent,
    cluster: Waiters,
    scores: Waiters,
    /// The rows of all nodes, as far as the broker has sent them.
    gathering: Option<Gathering>,
    row: Row,
    /// The figures for Graphite, if it is configured.
    figures: Option<Figures>,
    /// Replies that are ready.
    replies: VecDeque<(Key, Reply)>,
    is_stopping: bool,
}

impl Reports {
    /// Reports with this live page and these figures.
    pub fn new(page: Arc<[u8]>, figures: Option<Figures>) -> Reports {
        Reports {
            page,
            admin: page::ADMIN.html.as_bytes().into(),
            status: Recent::default(),
            metrics: Recent::default(),
            channels: Recent::default(),
            cluster: Waiters::default(),
            scores: Waiters::default(),
            gathering: None,
            row: Row::default(),
            figures,
            replies: VecDeque::new(),
            is_stopping: false,
        }
    }

    /// A client requests a document; the reply comes from [`Reports::poll_reply`].
    pub fn handle_request<N: Net>(&mut self, key: Key, document: Document, desk: &mut Desk<N>) {
        let reply = match document {
            Document::Health => report::probe_reply(Ok(())),
            Document::Readiness if self.is_stopping => report::probe_reply(Err("stopping")),
            Document::Readiness => report::probe_reply(desk.brokers.readiness(desk.now)),
            Document::Status => self.status.get_or_make(desk.now, || {
                let snapshot = desk.snapshot(usize::MAX);
                Reply::json(200, status::encode(&snapshot, limits::DOCUMENT_BYTES_MAX))
            }),
            Document::Metrics => self
                .metrics
                .get_or_make(desk.now, || report::metrics_reply(&desk.snapshot(0))),
            Document::Channels => self.channels.get_or_make(desk.now, || {
                Reply::json(200, status::encode_channels(&rows::channels(desk.server)))
            }),
            Document::Admin => page::ADMIN.reply(&self.admin),
            Document::Cluster => return self.inquire(key, Inquiry::Nodes, desk),
            Document::Page => return self.inquire(key, Inquiry::Scores, desk),
        };
        let reply = guarded(document, reply);
        self.replies.push_back((key, reply));
    }

    /// The broker has answered, or will not. Answers that nobody waits for any more are dropped.
    pub fn handle_answer<N: Net>(
        &mut self,
        inquiry: Inquiry,
        answer: Result<Vec<Vec<u8>>, Unanswered>,
        desk: &mut Desk<N>,
    ) {
        if self.waiters(&inquiry).deadline().is_none() {
            return;
        }
        match (&inquiry, answer) {
            (Inquiry::Nodes, Ok(names)) if self.gathering.is_none() => {
                self.gathering = Some(Gathering::new(names, desk.net.unix_seconds()));
                self.gather(desk);
            }
            (Inquiry::Row(_), Ok(rows)) => {
                if let Some(gathering) = &mut self.gathering {
                    // A node that has gone in the meantime has none.
                    rows.iter().for_each(|row| gathering.add(row));
                    self.gather(desk);
                }
            }
            (Inquiry::Nodes, Ok(_)) => {}
            (Inquiry::Nodes | Inquiry::Row(_), Err(unanswered)) => {
                self.gathering = None;
                let kind = desk.brokers.source().state(desk.now).kind;
                let (reply, age_max) = report::no_answer(kind, &unanswered);
                self.give_out(&inquiry, reply, age_max, desk);
            }
            (Inquiry::Scores, answer) => {
                let scores = answer.ok().map(|scores| page_with(&scores));
                let page = scores.as_ref().unwrap_or(&self.page);
                let reply = page::LIVE.reply(page);
                self.give_out(&inquiry, reply, limits::SCORES_AGE_MAX, desk);
            }
        }
    }

    /// The process was asked to end.
    pub fn handle_stop(&mut self, now: Time) {
        self.is_stopping = true;
        self.row.handle_stop(now);
    }

    /// Does what is due.
    pub fn handle_time<N: Net>(&mut self, desk: &mut Desk<N>) {
        if let Some(due) = self.row.poll(desk.brokers.store(), desk.now)
            && send_row(due, desk)
        {
            self.row.handle_sent(due);
        }
        if let Some(figures) = self.figures.as_mut().filter(|it| it.is_due(desk.now)) {
            let channels = rows::channels_by_pattern(desk.server);
            figures.report(&desk.snapshot(0), &channels, desk.now);
        }
        for inquiry in [Inquiry::Nodes, Inquiry::Scores] {
            let deadline = self.waiters(&inquiry).deadline();
            if deadline.is_some_and(|at| at <= desk.now) {
                self.handle_answer(inquiry, Err(Unanswered::Late), desk);
            }
        }
    }

    /// The readiness of a socket has changed, perhaps Graphite's.
    pub fn handle_ready(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(figures) = self.figures_of(token) {
            figures.handle_ready(readable, writable);
        }
    }

    /// Graphite's addresses.
    pub fn handle_resolved(
        &mut self,
        token: Token,
        result: io::Result<Vec<SocketAddr>>,
        now: Time,
    ) {
        if let Some(figures) = self.figures_of(token) {
            figures.handle_resolved(result, now);
        }
    }

    /// Reads from Graphite's connection, to notice its end before anything is sent.
    pub fn receive<N: Net>(&mut self, net: &mut N, now: Time) {
        if let Some(figures) = &mut self.figures {
            figures.receive(net, now);
        }
    }

    /// Sends figures to Graphite.
    pub fn send<N: Net>(&mut self, net: &mut N, now: Time) {
        if let Some(figures) = &mut self.figures {
            figures.send(net, now);
        }
    }

    /// The next reply that is ready, and the connection that it is for.
    pub fn poll_reply(&mut self) -> Option<(Key, Reply)> {
        self.replies.pop_front()
    }

    /// When something is due next.
    pub fn deadline(&self, store: Store, now: Time) -> Option<Time> {
        let deadlines = [
            self.row.deadline(store, now),
            self.figures.as_ref().and_then(Figures::deadline),
            self.cluster.deadline(),
            self.scores.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether the process may exit without waiting for the broker.
    pub fn is_settled(&self, store: Store, now: Time) -> bool {
        self.row.is_settled(store, now)
    }

    fn waiters(&mut self, inquiry: &Inquiry) -> &mut Waiters {
        match inquiry {
            Inquiry::Nodes | Inquiry::Row(_) => &mut self.cluster,
            Inquiry::Scores => &mut self.scores,
        }
    }

    fn figures_of(&mut self, token: Token) -> Option<&mut Figures> {
        self.figures.as_mut().filter(|figures| figures.owns(token))
    }

    /// Asks for the next node's row, or replies with those that were gathered. There is one row a turn, because parsing
    /// one may take some milliseconds.
    fn gather<N: Net>(&mut self, desk: &mut Desk<N>) {
        let Some(gathering) = &mut self.gathering else {
            return;
        };
        if let Some(name) = gathering.next_name() {
            self.cluster.renew(desk.now);
            self.ask(Inquiry::Row(name), desk);
        } else if let Some(gathering) = self.gathering.take() {
            let reply = Reply::json(200, gathering.encode());
            self.give_out(&Inquiry::Nodes, reply, limits::REPORT_INTERVAL, desk);
        }
    }

    /// Asks the broker, or answers at once if it cannot be asked.
    fn ask<N: Net>(&mut self, inquiry: Inquiry, desk: &mut Desk<N>) {
        if !desk.brokers.source().ask(inquiry.clone()) {
            self.handle_answer(inquiry, Err(Unanswered::Lost), desk);
        }
    }

    fn give_out<N: Net>(
        &mut self,
        inquiry: &Inquiry,
        reply: Reply,
        age_max: Duration,
        desk: &Desk<N>,
    ) {
        let reply = match inquiry {
            Inquiry::Nodes | Inquiry::Row(_) => guarded(Document::Cluster, reply),
            Inquiry::Scores => reply,
        };
        let keys = self
            .waiters(inquiry)
            .answer(reply.clone(), age_max, desk.now);
        let replies = keys.into_iter().map(|key| (key, reply.clone()));
        self.replies.extend(replies);
    }

    /// Answers with what the broker says, or said shortly before.
    fn inquire<N: Net>(&mut self, key: Key, inquiry: Inquiry, desk: &mut Desk<N>) {
        let waiters = self.waiters(&inquiry);
        if let Some(reply) = waiters.fresh(desk.now).cloned() {
            self.replies.push_back((key, reply));
            return;
        }
        if !waiters.wait(key, desk.now) {
            return;
        }
        if desk.brokers.store() == Store::None && inquiry != Inquiry::Scores {
            // There are no other nodes.
            let alone = Gathering::alone(&row(desk), desk.net.unix_seconds());
            let reply = Reply::json(200, alone.encode());
            return self.give_out(&inquiry, reply, limits::REPORT_INTERVAL, desk);
        }
        self.ask(inquiry, desk);
    }
}

/// Hides private documents from pages of other origins.
fn guarded(document: Document, reply: Reply) -> Reply {
    match document.is_private() {
        true => reply.for_own_origin(),
        false => reply,
    }
}

/// Writes our row at the broker, or removes it; whether that was sent.
fn send_row<N: Net>(due: Due, desk: &mut Desk<N>) -> bool {
    let node = &desk.server.settings().node;
    let document = match due {
        Due::Write => row(desk),
        Due::Remove => return desk.brokers.source().command(Command::RemoveRow { node }),
    };
    let document = &document;
    desk.brokers
        .source()
        .command(Command::WriteRow { node, document })
}

/// The status with as many connections as other nodes may see.
fn row<N: Net>(desk: &Desk<N>) -> Vec<u8> {
    let rows_max = desk.server.settings().reports.status_rows_max;
    status::encode(&desk.snapshot(rows_max), limits::STATUS_BYTES_MAX)
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
    page::render(page::FEED, rows).into()
}
