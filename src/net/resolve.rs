//! Name resolution, on threads of its own, because the system's resolver may block for seconds. It owns one thread per
//! pending query; it must not decide when to retry.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use ::mio::Waker;

use super::Token;

/// The result of a query.
pub(super) type Answer = io::Result<Vec<SocketAddr>>;

/// The pending queries.
pub(super) struct Resolver {
    waker: Arc<Waker>,
    sender: Sender<(Token, u64, Answer)>,
    receiver: Receiver<(Token, u64, Answer)>,
    /// The number of the latest query for each socket; answers to earlier ones are discarded.
    asked: HashMap<Token, u64>,
}

impl Resolver {
    /// A resolver that wakes the poll for each answer.
    pub(super) fn new(waker: Arc<Waker>) -> Resolver {
        let (sender, receiver) = mpsc::channel();
        Resolver {
            waker,
            sender,
            receiver,
            asked: HashMap::new(),
        }
    }

    /// Asks for a host's addresses. A literal address is answered without a thread.
    pub(super) fn ask(&mut self, token: Token, host: &str, port: u16) {
        let latest = self.asked.entry(token).or_default();
        *latest += 1;
        let number = *latest;
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        let answer = move |answer| {
            // Both fail only if the process is exiting.
            let _gone = sender.send((token, number, answer));
            let _gone = waker.wake();
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return answer(Ok(vec![SocketAddr::new(address, port)]));
        }
        let (question, thread_answer) = ((host.to_owned(), port), answer.clone());
        let thread = thread::Builder::new().name("resolver".to_owned());
        let resolve = move || thread_answer(question.to_socket_addrs().map(Iterator::collect));
        if let Err(error) = thread.spawn(resolve) {
            answer(Err(error));
        }
    }

    /// The answers that have arrived to the latest queries.
    pub(super) fn answers(&mut self) -> impl Iterator<Item = (Token, Answer)> {
        let answers = self.receiver.try_iter();
        answers.filter_map(|(token, number, answer)| {
            (self.asked.get(&token) == Some(&number)).then_some((token, answer))
        })
    }
}
