//! Name resolution, off the loop, because the system's resolver blocks for seconds. It owns one thread
//! that lives as long as there is a question; it must not decide when to ask again.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use ::mio::Waker;

type Answer = (u64, io::Result<Vec<SocketAddr>>);

/// Questions under way.
pub(super) struct Resolver {
    waker: Arc<Waker>,
    sender: Sender<Answer>,
    receiver: Receiver<Answer>,
    /// The number of the latest question; answers to earlier ones are outdated.
    asked: u64,
}

impl Resolver {
    /// A resolver that wakes the loop for each answer.
    pub(super) fn new(waker: Arc<Waker>) -> Resolver {
        let (sender, receiver) = mpsc::channel();
        Resolver {
            waker,
            sender,
            receiver,
            asked: 0,
        }
    }

    /// Asks for a host's addresses. A literal address is answered without a thread.
    pub(super) fn ask(&mut self, host: &str, port: u16) {
        self.asked += 1;
        let asked = self.asked;
        if let Ok(address) = host.parse::<IpAddr>() {
            self.answer(asked, Ok(vec![SocketAddr::new(address, port)]));
            return;
        }
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        let question = (host.to_owned(), port);
        let thread = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || {
                let answer = question.to_socket_addrs().map(Iterator::collect);
                // Both fail only when the loop is gone.
                let _gone = sender.send((asked, answer));
                let _gone = waker.wake();
            });
        if let Err(error) = thread {
            self.answer(asked, Err(error));
        }
    }

    /// The answer to the latest question, once it is there.
    pub(super) fn take(&mut self) -> Option<io::Result<Vec<SocketAddr>>> {
        let asked = self.asked;
        self.receiver
            .try_iter()
            .find(|(number, _)| *number == asked)
            .map(|(_, answer)| answer)
    }

    fn answer(&self, asked: u64, answer: io::Result<Vec<SocketAddr>>) {
        let _gone = self.sender.send((asked, answer));
        let _gone = self.waker.wake();
    }
}
