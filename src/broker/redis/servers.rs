//! Servers: a list of Redis servers that are tried in turn.

use super::Endpoint;

/// Redis servers, of which one is in use or tried next.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    endpoints: Vec<Endpoint>,
    /// The endpoints as they are shown.
    places: Vec<String>,
    current: usize,
}

impl Servers {
    /// Begins with the first; `endpoints` is not empty.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Servers {
        debug_assert!(!endpoints.is_empty());
        Servers {
            places: endpoints.iter().map(ToString::to_string).collect(),
            endpoints,
            current: 0,
        }
    }

    /// A list of the first server alone.
    pub(super) fn first(&self) -> Servers {
        Servers::new(vec![self.endpoints[0].clone()])
    }

    /// Switches to the first server.
    pub(super) fn go_to_first(&mut self) {
        self.current = 0;
    }

    pub(super) fn is_at_first(&self) -> bool {
        self.current == 0
    }

    pub(super) fn advance(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len();
    }

    /// Switches to the current server of another list of the same servers.
    pub(super) fn follow(&mut self, other: &Servers) {
        self.current = other.current;
    }

    /// Whether that is the current server of `other` too.
    pub(super) fn is_at(&self, other: &Servers) -> bool {
        self.current == other.current
    }

    /// The current server.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.current]
    }

    /// The current server as it is shown, without its password.
    pub(super) fn place(&self) -> &str {
        &self.places[self.current]
    }

    pub(super) fn len(&self) -> u32 {
        self.endpoints.len() as u32
    }
}
