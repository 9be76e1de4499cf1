//! The fuzz targets. Each is a function of bytes that panics where something is wrong.

#[cfg(feature = "amqp")]
mod amqp;
mod body;
mod bus;
mod connection;
mod forwarded;
mod glob;
mod head;
mod options;
mod publication;
mod resp;
mod server;
mod target;

/// All targets, by name.
pub const ALL: &[(&str, fn(&[u8]))] = &[
    #[cfg(feature = "amqp")]
    ("amqp", amqp::run),
    ("body", body::run),
    ("bus", bus::run),
    ("connection", connection::run),
    ("forwarded", forwarded::run),
    ("glob", glob::run),
    ("head", head::run),
    ("options", options::run),
    ("publication", publication::run),
    ("resp", resp::run),
    ("server", server::run),
    ("target", target::run),
];

/// The target of this name.
pub fn find(name: &str) -> Option<fn(&[u8])> {
    let target = ALL.iter().find(|(known, _)| *known == name);
    target.map(|&(_, run)| run)
}

/// An input as a sequence of decisions. When it is used up, every decision is zero.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// A number below 65,536.
    pub fn long(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// The next bytes, so many if there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Whether the input is used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All values that a decoder takes from these pieces, and the error that ended it, if one did. `next` takes the next value
/// from the front of its input, or all of it where no value is whole.
pub fn decode<T, E>(
    pieces: &[&[u8]],
    mut next: impl FnMut(&mut &[u8]) -> Result<Option<T>, E>,
) -> (Vec<T>, Option<E>) {
    let mut values = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match next(&mut rest) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
        assert!(rest.is_empty(), "bytes were left that make no value");
    }
    (values, None)
}

/// Cuts bytes into pieces; where, is decided by up to four bytes at the front of the input. Returns the pieces and all
/// of their bytes.
pub fn pieces(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut decisions = Input(input);
    let places = [(); 4].map(|()| usize::from(decisions.byte()));
    let bytes = decisions.0;
    let mut cuts: Vec<usize> = places
        .iter()
        .map(|place| place * bytes.len() / 256)
        .collect();
    // One of the cuts is near the beginning, where the grammars decide most.
    cuts[0] = (places[0] % 64).min(bytes.len());
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
    (pieces.filter(|piece| !piece.is_empty()).collect(), bytes)
}
