//! Symbols: the ids of score updates, each stored once as long as the tape has it. It owns how an id is written
//! in an event and in a sum; it must not know numbers.

use std::collections::HashMap;

use super::sse::{self, Style};

/// An id of a score update, as an index into the table of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol(pub u32);

/// The table of ids.
#[derive(Default)]
pub struct Symbols {
    names: Vec<Name>,
    indices: HashMap<Box<[u8]>, u32>,
    free: Vec<u32>,
    bytes: usize,
}

#[derive(Default)]
struct Name {
    id: Box<[u8]>,
    /// Whether it is the same in a line and, between quotes, in JSON, as each emoji's is.
    is_plain: bool,
    /// How often the tape has it.
    uses: u32,
}

/// What an id takes beside its bytes, in the table and in the index.
const NAME_BYTES: usize = 96;

impl Symbols {
    /// The symbol of an id, which is valid UTF-8. It stays until it was released as often as it was asked for.
    pub fn intern(&mut self, id: &[u8]) -> Symbol {
        let index = match self.indices.get(id) {
            Some(&index) => index,
            None => self.insert(id),
        };
        self.names[index as usize].uses += 1;
        Symbol(index)
    }

    /// Takes back one use of a symbol.
    pub fn release(&mut self, symbol: Symbol) {
        let name = &mut self.names[symbol.0 as usize];
        name.uses -= 1;
        if name.uses == 0 {
            let name = std::mem::take(name);
            self.bytes -= Symbols::growth(&name.id);
            self.indices.remove(&name.id);
            self.free.push(symbol.0);
        }
    }

    /// Appends the `data:` lines of an event with this id.
    pub fn encode_lines(&self, symbol: Symbol, out: &mut Vec<u8>) {
        let name = &self.names[symbol.0 as usize];
        if name.is_plain {
            out.extend_from_slice(b"data:");
            out.extend_from_slice(&name.id);
            out.push(b'\n');
        } else {
            sse::encode_data(out, Style::Tight, &name.id);
        }
    }

    /// Appends the id as a JSON string.
    pub fn encode_quoted(&self, symbol: Symbol, out: &mut Vec<u8>) {
        let name = &self.names[symbol.0 as usize];
        if name.is_plain {
            out.push(b'"');
            out.extend_from_slice(&name.id);
            out.push(b'"');
        } else {
            let id = String::from_utf8_lossy(&name.id);
            let _infallible = serde_json::to_writer(out, &*id);
        }
    }

    /// Bytes of memory that an id takes if it is new.
    pub fn growth(id: &[u8]) -> usize {
        2 * id.len() + NAME_BYTES
    }

    /// Bytes of memory held, as near as it can be told.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, id: &[u8]) -> u32 {
        let is_alike = |byte: &u8| *byte >= b' ' && !b"\"\\".contains(byte);
        let name = Name {
            id: id.into(),
            is_plain: id.first() != Some(&b' ') && id.iter().all(is_alike),
            uses: 0,
        };
        self.bytes += Symbols::growth(id);
        let index = self.free.pop().unwrap_or(self.names.len() as u32);
        match self.names.get_mut(index as usize) {
            Some(place) => *place = name,
            None => self.names.push(name),
        }
        self.indices.insert(id.into(), index);
        index
    }
}

/// Counts by symbol, in the order in which symbols first came.
#[derive(Default)]
pub struct Counts {
    /// One count for each symbol; zero where the symbol is not in `touched`.
    counts: Vec<u64>,
    touched: Vec<Symbol>,
    updates: usize,
}

impl Counts {
    /// Counts updates.
    pub fn add_all(&mut self, symbols: impl IntoIterator<Item = Symbol>) {
        symbols.into_iter().for_each(|symbol| {
            let place = symbol.0 as usize;
            if place >= self.counts.len() {
                self.counts.resize(place + 1, 0);
            }
            if self.counts[place] == 0 {
                self.touched.push(symbol);
            }
            self.counts[place] += 1;
            self.updates += 1;
        });
    }

    /// How many updates are counted.
    pub fn len(&self) -> usize {
        self.updates
    }

    /// Appends what was counted as a JSON object, and starts over.
    pub fn drain(&mut self, symbols: &Symbols, out: &mut Vec<u8>) {
        self.updates = 0;
        let mut separator = b'{';
        for symbol in self.touched.drain(..) {
            out.push(separator);
            symbols.encode_quoted(symbol, out);
            out.push(b':');
            sse::push_decimal(out, std::mem::take(&mut self.counts[symbol.0 as usize]));
            separator = b',';
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_an_event_and_as_a_name_in_json() {
        let table = [
            ("1F4C2", "data:1F4C2\n", "\"1F4C2\""),
            ("", "data:\n", "\"\""),
            (" a\nb", "data:  a\ndata:b\n", "\" a\\nb\""),
            ("\"\\", "data:\"\\\n", "\"\\\"\\\\\""),
            ("é", "data:é\n", "\"é\""),
        ];
        let mut symbols = Symbols::default();
        for (id, lines, quoted) in table {
            let symbol = symbols.intern(id.as_bytes());
            let mut out = Vec::new();
            symbols.encode_lines(symbol, &mut out);
            assert_eq!(out, lines.as_bytes(), "{id:?}");
            out.clear();
            symbols.encode_quoted(symbol, &mut out);
            assert_eq!(out, quoted.as_bytes(), "{id:?}");
            assert_eq!(symbols.intern(id.as_bytes()), symbol);
        }
    }

    #[test]
    fn a_symbol_goes_with_its_last_use_and_its_place_is_used_again() {
        let mut symbols = Symbols::default();
        let (one, other) = (symbols.intern(b"one"), symbols.intern(b"other"));
        symbols.intern(b"one");
        symbols.release(one);
        assert_eq!(&*symbols.names[one.0 as usize].id, b"one");
        symbols.release(one);
        assert_eq!(symbols.intern(b"new"), one);
        symbols.release(one);
        symbols.release(other);
        assert_eq!((symbols.bytes(), symbols.indices.len()), (0, 0));
    }

    #[test]
    fn counts_are_written_in_the_order_in_which_symbols_first_came() {
        let mut symbols = Symbols::default();
        let mut counts = Counts::default();
        counts.add_all(["b", "a", "b"].map(|id| symbols.intern(id.as_bytes())));
        let mut out = Vec::new();
        counts.drain(&symbols, &mut out);
        assert_eq!(out, br#"{"b":2,"a":1}"#);
        assert_eq!(counts.len(), 0);
        counts.add_all([symbols.intern(b"a")]);
        out.clear();
        counts.drain(&symbols, &mut out);
        assert_eq!(out, br#"{"a":1}"#);
    }
}
