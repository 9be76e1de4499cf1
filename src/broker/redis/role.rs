//! Roles: what a session with Redis is for, and what follows from that for where it connects and what it logs. It does not
//! know how a session is held.

use crate::net::Peer;

/// What a session is for.
pub(super) enum Role {
    /// It subscribes.
    Messages,
    /// It sends commands to where the session for messages is connected: a name may stand for several servers, and what is
    /// published at one of them need not arrive from another.
    Following(Commands, Leader),
    /// It sends commands to servers of its own.
    Commands(Commands),
    /// It finds out whether the server answers.
    Attempt,
}

/// What a session for commands remembers.
#[derive(Default)]
pub(super) struct Commands {
    /// Whether it was logged that commands cannot be sent.
    logged_down: bool,
}

/// What is known of the session for messages.
#[derive(Default)]
pub(super) struct Leader {
    peer: Option<Peer>,
    is_live: bool,
}

impl Role {
    /// The session for messages is connected to `peer` if there is one; `is_at_its_server` and `is_connected` are those of
    /// this session. Returns whether to move there. An established connection is given up only if the leader is live
    /// elsewhere.
    pub(super) fn handle_leader(
        &mut self,
        is_live: bool,
        peer: Option<&Peer>,
        is_at_its_server: bool,
        is_connected: bool,
    ) -> bool {
        let Role::Following(_, leader) = self else {
            return false;
        };
        leader.is_live = is_live;
        let is_there = peer.is_none() || (leader.peer.as_ref() == peer && is_at_its_server);
        if is_there || (is_connected && !is_live) {
            return false;
        }
        leader.peer = peer.cloned();
        true
    }

    /// The session is live; what to log, if anything.
    pub(super) fn handle_live(&mut self) -> Option<&'static str> {
        match self {
            Role::Messages => Some("subscribed"),
            Role::Following(commands, _) | Role::Commands(commands) => {
                std::mem::take(&mut commands.logged_down).then_some("takes commands again")
            }
            Role::Attempt => None,
        }
    }

    /// The session has failed. Returns whether to log it: if the server is down, the session for messages logs it for both,
    /// and the loss of a connection that was live is no news before the next one fails.
    pub(super) fn handle_failure(&mut self, was_live: bool) -> bool {
        let commands = match self {
            Role::Messages => return true,
            Role::Following(_, leader) if !leader.is_live => return false,
            Role::Following(commands, _) | Role::Commands(commands) => commands,
            Role::Attempt => return false,
        };
        !was_live && !std::mem::replace(&mut commands.logged_down, true)
    }

    /// Whether it subscribes, so that it may send nothing else.
    pub(super) fn subscribes(&self) -> bool {
        matches!(self, Role::Messages)
    }

    /// Whether publications are sent over it.
    pub(super) fn publishes(&self) -> bool {
        matches!(self, Role::Following(..) | Role::Commands(_))
    }

    /// Whether it goes where the session for messages is.
    pub(super) fn follows(&self) -> bool {
        matches!(self, Role::Following(..))
    }

    /// The address to connect to, if it is known without resolving a name.
    pub(super) fn peer(&self) -> Option<&Peer> {
        match self {
            Role::Following(_, leader) => leader.peer.as_ref(),
            _ => None,
        }
    }
}
