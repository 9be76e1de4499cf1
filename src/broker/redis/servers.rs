//! Servers: those that are tried in turn. It owns whose turn it is; it must not know how one is spoken to.

use super::Endpoint;

/// Redis servers, of which one is in use or is tried next.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    endpoints: Vec<Endpoint>,
    /// The endpoints as they are shown.
    places: Vec<String>,
    current: usize,
}

impl Servers {
    /// Begins with the first of these, of which there must be one.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Servers {
        debug_assert!(!endpoints.is_empty());
        Servers {
            places: endpoints.iter().map(ToString::to_string).collect(),
            endpoints,
            current: 0,
        }
    }

    /// The next one has its turn.
    pub(super) fn advance(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len();
    }

    /// The one that `other`, a list of the same servers, is at has its turn.
    pub(super) fn follow(&mut self, other: &Servers) {
        self.current = other.current;
    }

    /// Whether `other` is at the same one.
    pub(super) fn is_at(&self, other: &Servers) -> bool {
        self.current == other.current
    }

    /// Whose turn it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.current]
    }

    /// The same as it is shown, without its password.
    pub(super) fn place(&self) -> &str {
        &self.places[self.current]
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.endpoints.len() as u32
    }
}
