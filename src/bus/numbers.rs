//! Numbers: which messages and breaks a namespace has, in order. It owns how the lists of a group's members become one; it must not
//! know messages.

use super::namespace::NamespaceId;
use super::registry::Registry;

/// The numbers of a namespace's messages and breaks in order; of a group's, those of all its members, each once.
#[derive(Default)]
pub struct Numbers {
    heads: Vec<Head>,
    next_break: Option<u64>,
}

/// How far one member's list was read.
struct Head {
    member: NamespaceId,
    /// The place of the next number, and the number; the greatest where there is none.
    place: usize,
    next: u64,
}

impl Numbers {
    /// Begins with the first number of a namespace after `number`.
    pub fn start(&mut self, registry: &Registry, id: NamespaceId, number: u64) {
        self.heads.clear();
        self.next_break = registry.next_break(id, number);
        self.heads.extend(registry.members(id).map(|member| {
            let place = member.place_after(number);
            let next = member.number_at(place).unwrap_or(u64::MAX);
            let member = member.id;
            Head {
                member,
                place,
                next,
            }
        }));
    }

    /// The next number of the namespace that this was started with.
    pub fn next(&mut self, registry: &Registry, id: NamespaceId) -> Option<u64> {
        let messages = self.heads.iter().map(|head| head.next);
        let next = messages.chain(self.next_break).min();
        let next = next.filter(|&number| number < u64::MAX)?;
        for head in self.heads.iter_mut().filter(|head| head.next == next) {
            head.place += 1;
            let member = registry.get(head.member);
            let number = member.and_then(|member| member.number_at(head.place));
            head.next = number.unwrap_or(u64::MAX);
        }
        if self.next_break == Some(next) {
            self.next_break = registry.next_break(id, next);
        }
        Some(next)
    }
}
