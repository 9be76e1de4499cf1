//! Passes: whose turn it is to be written to. It owns the order of a fan-out, so that all who listen to a stream lose
//! the same share under overload, and none waits for another stream; it must not know who listens to what, nor
//! what is written.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use slab::Slab;

use super::namespace::{Namespace, NamespaceId, Pass, Stream};
use crate::limits::{PASS_PAUSE_MAX, PASS_PAUSE_PER_SUBSCRIBER, WRITES_PER_NAMESPACE};
use crate::time::Time;

/// A pass that has visited everybody.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The stream of its namespace.
    pub stream: Stream,
    /// When the message of its oldest frame arrived.
    pub arrived_at: Time,
    /// How many frames it was about.
    pub frames: u32,
}

/// A subscriber whose turn it is.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The connection, as an index into the engine's table.
    pub subscriber: u32,
    /// The oldest frame that it may lack, provided that it is not behind.
    pub from: u64,
}

/// The passes that are under way or wanted.
pub struct Passes {
    /// Namespaces with a pass under way or pending; each once.
    touched: VecDeque<NamespaceId>,
    /// Namespaces whose next pass must not begin yet, and when it may, the earliest first; each once.
    paced: BinaryHeap<Reverse<(Time, u32)>>,
    /// Subscribers of a namespace from which on its passes are paced.
    paced_from: usize,
    /// The moment of the turn.
    now: Time,
    /// Writes left before the namespace in front goes to the back.
    quantum: usize,
    /// Passes that have ended and were not yet asked for.
    finished: Vec<Finished>,
}

impl Passes {
    /// None. Those over fewer subscribers than `paced_from` are not paced: they cost little, and nobody is made
    /// to wait.
    pub fn new(paced_from: usize) -> Passes {
        Passes {
            touched: VecDeque::new(),
            paced: BinaryHeap::new(),
            paced_from,
            now: Time::ZERO,
            quantum: WRITES_PER_NAMESPACE,
            finished: Vec::new(),
        }
    }

    /// Begins a turn: passes whose time has come may begin, or all of them where they have been put off for
    /// too long already.
    pub fn begin_turn(&mut self, now: Time, is_late: bool) {
        self.now = now;
        while let Some(&Reverse((at, id))) = self.paced.peek()
            && (at <= now || is_late)
        {
            self.paced.pop();
            self.touched.push_back(NamespaceId(id));
        }
    }

    /// When the first of the passes that have been put off may begin.
    pub fn next_at(&self) -> Option<Time> {
        self.paced.peek().map(|&Reverse((at, _))| at)
    }

    /// Whether everybody has been offered everything.
    pub fn is_flushed(&self) -> bool {
        self.touched.is_empty() && self.paced.is_empty()
    }

    /// The next subscriber of a touched namespace, in passes: each pass visits everybody once, so that
    /// under overload all lose the same share. Whether the subscriber needs anything is for the caller.
    pub fn next_turn(&mut self, namespaces: &mut Slab<Namespace>) -> Option<Turn> {
        loop {
            let id = *self.touched.front()?;
            let Some(namespace) = namespaces.get_mut(id.0 as usize) else {
                self.touched.pop_front();
                continue;
            };
            if self.quantum == 0 {
                self.quantum = WRITES_PER_NAMESPACE;
                self.touched.rotate_left(1);
                continue;
            }
            if namespace.pass.is_none() {
                let remaining = namespace.subscribers.len();
                let pending = namespace.pending.take();
                if remaining >= self.paced_from {
                    namespace.ready_at = self.now + pause_between_passes(remaining);
                }
                namespace.pass = pending.map(|frames| Pass { frames, remaining });
            }
            if let Some(pass) = &mut namespace.pass
                && let Some(index) = pass.remaining.checked_sub(1)
            {
                pass.remaining = index;
                self.quantum -= 1;
                return Some(Turn {
                    subscriber: namespace.subscribers[index],
                    from: pass.frames.from,
                });
            }
            self.finished
                .extend(namespace.pass.take().map(|pass| Finished {
                    stream: namespace.stream,
                    arrived_at: pass.frames.arrived_at,
                    frames: pass.frames.count,
                }));
            self.touched.pop_front();
            self.quantum = WRITES_PER_NAMESPACE;
            if namespace.pending.is_some() {
                self.queue(id, namespace.ready_at);
            }
        }
    }

    /// The passes that have ended since this was last called.
    pub fn take_finished(&mut self) -> impl Iterator<Item = Finished> + '_ {
        self.finished.drain(..)
    }

    /// Whether somebody is still to be visited.
    pub fn has_turns(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Queues a namespace for its next pass, now or when that may begin.
    pub fn queue(&mut self, id: NamespaceId, ready_at: Time) {
        if ready_at <= self.now {
            self.touched.push_back(id);
        } else {
            self.paced.push(Reverse((ready_at, id.0)));
        }
    }

    /// Whether a namespace is queued.
    pub fn is_queued(&self, id: NamespaceId) -> bool {
        let is_paced = |entry: &Reverse<(Time, u32)>| entry.0.1 == id.0;
        self.touched.contains(&id) || self.paced.iter().any(is_paced)
    }

    /// Takes a namespace that goes out of the queues.
    pub fn forget(&mut self, id: NamespaceId) {
        self.touched.retain(|&touched| touched != id);
        self.paced.retain(|&Reverse((_, paced))| paced != id.0);
    }
}

/// How long after the beginning of a pass over so many subscribers the next one may begin. A pass costs one
/// system call for each of them, however many messages it brings: where more come than that, they are gathered
/// meanwhile.
fn pause_between_passes(subscribers: usize) -> Duration {
    let subscribers = u32::try_from(subscribers).unwrap_or(u32::MAX);
    PASS_PAUSE_MAX.min(PASS_PAUSE_PER_SUBSCRIBER.saturating_mul(subscribers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_with_subscribers_and_is_bounded() {
        let table = [
            (1, PASS_PAUSE_PER_SUBSCRIBER),
            (50, 50 * PASS_PAUSE_PER_SUBSCRIBER),
            (1_000_000, PASS_PAUSE_MAX),
            (usize::MAX, PASS_PAUSE_MAX),
        ];
        for (subscribers, pause) in table {
            assert_eq!(pause_between_passes(subscribers), pause, "{subscribers}");
        }
    }
}
