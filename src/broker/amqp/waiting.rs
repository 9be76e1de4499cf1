//! Publications that wait. A client that sees its stream begin may have something published at once, but the broker
//! looks at what comes over two channels in no certain order: what is published waits until everything is bound that
//! was wanted before. It owns their order and how many bytes they are; it must not know how they are sent.

use std::collections::VecDeque;

/// A message that is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) id: u64,
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
}

/// Those that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// How many changes have to be answered before each; none where some of them have not been asked for.
    queue: VecDeque<(Option<u64>, Publication)>,
    bytes: usize,
}

impl Waiting {
    /// One more, behind the others.
    pub(super) fn add(&mut self, publication: Publication) {
        self.bytes += publication.len();
        self.queue.push_back((None, publication));
    }

    /// All that had been wanted has been asked for by now, so many changes since the start.
    pub(super) fn on_asked(&mut self, asked: u64) {
        let unknown = self.queue.iter_mut().rev();
        for (after, _) in unknown.take_while(|(after, _)| after.is_none()) {
            *after = Some(asked);
        }
    }

    /// The next one, where so many changes are answered.
    pub(super) fn next(&mut self, answered: u64) -> Option<Publication> {
        let (after, _) = self.queue.front()?;
        after.filter(|&after| after <= answered)?;
        self.take_first()
    }

    /// The next one, whatever it waits for.
    pub(super) fn take_first(&mut self) -> Option<Publication> {
        let (_, publication) = self.queue.pop_front()?;
        self.bytes -= publication.len();
        Some(publication)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Publication {
    fn len(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_what_was_asked_before_it_and_for_those_before_it() {
        let publication = |id| Publication {
            id,
            channel: "a".to_owned(),
            payload: b"bc".to_vec(),
        };
        let mut waiting = Waiting::default();
        waiting.add(publication(1));
        waiting.on_asked(3);
        waiting.add(publication(2));
        waiting.add(publication(3));
        assert_eq!(waiting.next(2), None);
        assert_eq!(waiting.next(3), Some(publication(1)));
        assert_eq!(
            waiting.next(9),
            None,
            "nobody knows yet what is to be asked"
        );
        waiting.on_asked(5);
        waiting.add(publication(4));
        waiting.on_asked(4);
        assert_eq!((waiting.len(), waiting.bytes()), (3, 9));
        assert_eq!(waiting.next(4), None, "it does not overtake");
        assert_eq!(waiting.next(5), Some(publication(2)));
        assert_eq!(waiting.next(5), Some(publication(3)));
        assert_eq!(waiting.take_first(), Some(publication(4)));
        assert_eq!((waiting.take_first(), waiting.bytes()), (None, 0));
    }
}
