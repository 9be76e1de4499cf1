//! The guard of publications: what is executed in one transaction with a PUBLISH, so that 200 means that subscribers of
//! the primary receive it. A replica takes a bare PUBLISH, and passes it on to nobody but its own subscribers. It owns which
//! guard a server permits, and what its answer means; it does not know connections.

use redis::Value;

/// A key that never exists. It has the name of our channels, so that a user who may write nothing else can be given it.
const ABSENT_KEY: &[u8] = b"stream.admin.none";

/// How a publication is guarded, the weakest way first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guard {
    /// Not at all, where the server permits none of the others, and in a cluster, whose nodes pass on what is published at
    /// any of them.
    #[default]
    None,
    /// By the server's role, which comes with the answer: what a replica has published is reported as a failure.
    Role,
    /// By a write that changes nothing: a replica refuses the whole transaction, and so does a primary with fewer replicas
    /// than `min-replicas-to-write`.
    Write,
}

impl Guard {
    /// The guards to be tried on a new connection.
    pub(super) const TRIED: [Guard; 2] = [Guard::Role, Guard::Write];

    /// The result of the transaction that tries a guard: this value, or a refusal.
    pub(super) fn handle_trial(&mut self, tried: Guard, answer: &Value, refusal: Option<&str>) {
        match refusal.map(code) {
            // What is no server of Redis may answer anything.
            None if !is_executed(answer) => {}
            None => *self = tried,
            Some("NOPERM" | "ERR" | "EXECABORT" | "MISCONF") => {}
            Some(code) if is_of_cluster(code) => *self = Guard::None,
            // The command is permitted, and refused because this is a replica, for instance.
            Some(_) => *self = tried,
        }
    }

    /// A publication was refused, and not published. Slots may move while we are connected, and a disk may become full.
    pub(super) fn handle_refusal(&mut self, refusal: &str) {
        match code(refusal) {
            "MISCONF" => *self = (*self).min(Guard::Role),
            code if is_of_cluster(code) => *self = Guard::None,
            _ => {}
        }
    }

    /// The command that comes before PUBLISH.
    pub(super) fn command(self) -> Option<&'static [&'static [u8]]> {
        match self {
            Guard::None => None,
            Guard::Role => Some(&[b"ROLE"]),
            Guard::Write => Some(&[b"DEL", ABSENT_KEY]),
        }
    }
}

/// Whether a refusal says that this server is a replica.
pub(super) fn is_of_replica(refusal: &str) -> bool {
    code(refusal) == "READONLY"
}

/// What the answer to a publication that is not an error means.
///
/// # Errors
/// Why the message has probably not reached all subscribers.
pub(super) fn outcome(answer: &Value) -> Result<(), String> {
    match answer {
        Value::Int(_) => Ok(()),
        Value::Array(items) => match &items[..] {
            [Value::Int(_), Value::Int(_)] => Ok(()),
            [Value::Array(role), Value::Int(_)] if is_primary(role) => Ok(()),
            [Value::Array(_), Value::Int(_)] => {
                Err("the server is a replica; the message may have been published there".to_owned())
            }
            items => {
                let mut errors = items.iter().filter_map(|item| match item {
                    Value::ServerError(error) => Some(error.to_string()),
                    _ => None,
                });
                let unknown = || "the answer is not one to a publication".to_owned();
                Err(errors.next_back().unwrap_or_else(unknown))
            }
        },
        _ => Err("the transaction was not executed".to_owned()),
    }
}

/// Whether a transaction of one command was executed.
fn is_executed(answer: &Value) -> bool {
    let Value::Array(items) = answer else {
        return false;
    };
    matches!(&items[..], [item] if !matches!(item, Value::ServerError(_)))
}

fn is_primary(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
}

/// The first word of an error, which says of which kind it is.
fn code(refusal: &str) -> &str {
    refusal.split(' ').next().unwrap_or_default()
}

fn is_of_cluster(code: &str) -> bool {
    matches!(
        code,
        "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" | "CLUSTERDOWN"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_guard_that_is_permitted_is_used() {
        const NO: Option<&str> = Some("NOPERM this user has no permissions");
        const UNKNOWN: Option<&str> = Some("ERR unknown command");
        let table = [
            (None, None, Guard::Write),
            (None, Some("READONLY You can't write"), Guard::Write),
            (None, Some("NOREPLICAS Not enough"), Guard::Write),
            (None, NO, Guard::Role),
            (None, Some("MISCONF Redis is configured"), Guard::Role),
            (NO, None, Guard::Write),
            (NO, NO, Guard::None),
            (UNKNOWN, UNKNOWN, Guard::None),
            (None, Some("MOVED 7 127.0.0.1:7"), Guard::None),
            (None, Some("CLUSTERDOWN Hash slot"), Guard::None),
        ];
        for (role, write, expected) in table {
            let mut guard = Guard::None;
            let done = Value::Array(vec![Value::Int(0)]);
            guard.handle_trial(Guard::Role, &done, role);
            guard.handle_trial(Guard::Write, &done, write);
            assert_eq!(guard, expected, "{role:?} {write:?}");
        }
        for other in [Value::Okay, Value::Nil, Value::Array(Vec::new())] {
            let mut guard = Guard::None;
            guard.handle_trial(Guard::Write, &other, None);
            assert_eq!(guard, Guard::None, "{other:?}");
        }
    }

    #[test]
    fn a_guard_that_no_longer_works_is_given_up() {
        for (refusal, expected) in [
            ("READONLY You can't write", Guard::Write),
            ("NOPERM No permissions to access a channel", Guard::Write),
            ("MISCONF Redis is configured", Guard::Role),
            ("MOVED 7 127.0.0.1:7", Guard::None),
        ] {
            let mut guard = Guard::Write;
            guard.handle_refusal(refusal);
            assert_eq!(guard, expected, "{refusal}");
        }
    }

    #[test]
    fn only_a_primary_has_published() {
        let role = |name: &str| Value::Array(vec![Value::BulkString(name.into()), Value::Int(0)]);
        let table = [
            (Value::Int(0), true),
            (Value::Array(vec![Value::Int(0), Value::Int(2)]), true),
            (Value::Array(vec![role("master"), Value::Int(2)]), true),
            (Value::Array(vec![role("slave"), Value::Int(2)]), false),
            (Value::Array(vec![Value::Int(0)]), false),
            (Value::Array(Vec::new()), false),
            (Value::Nil, false),
            (Value::Okay, false),
        ];
        for (answer, expected) in table {
            assert_eq!(outcome(&answer).is_ok(), expected, "{answer:?}");
        }
    }
}
