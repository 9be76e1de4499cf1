//! Numbers: which messages a namespace has, in order. It owns how the lists of a group's members become one; it must not
//! know messages.

use super::namespace::NamespaceId;
use super::registry::Registry;

/// The numbers of a namespace's messages in order; of a group's, those of all its members, each once.
#[derive(Default)]
pub struct Numbers {
    heads: Vec<Head>,
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

    /// The next number.
    pub fn next(&mut self, registry: &Registry) -> Option<u64> {
        let next = self.heads.iter().map(|head| head.next).min();
        let next = next.filter(|&number| number < u64::MAX)?;
        for head in self.heads.iter_mut().filter(|head| head.next == next) {
            head.place += 1;
            let member = registry.get(head.member);
            let number = member.and_then(|member| member.number_at(head.place));
            head.next = number.unwrap_or(u64::MAX);
        }
        Some(next)
    }
}
