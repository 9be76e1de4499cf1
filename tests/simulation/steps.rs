//! The last steps of a simulated client or broker, so that a failed verdict can be understood without a debugger.
//!
//! Recording a step takes some nanoseconds: a label, a number and the first bytes concerned. Steps are formatted only
//! after a failure.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};

use emojitrack_streamer::time::Time;

/// Steps that are kept.
const KEPT: usize = 50;

/// Bytes of an excerpt.
const EXCERPT: usize = 72;

struct Step {
    at: Time,
    what: &'static str,
    number: usize,
    excerpt: [u8; EXCERPT],
    excerpt_len: u8,
}

/// A ring of the last steps.
#[derive(Default)]
pub struct Steps {
    ring: VecDeque<Step>,
    noted: usize,
}

impl Steps {
    /// Notes what was done, how much of it, and what it looked like.
    pub fn note(&mut self, at: Time, what: &'static str, number: usize, looks: &[u8]) {
        self.noted += 1;
        if self.ring.len() == KEPT {
            self.ring.pop_front();
        }
        let len = looks.len().min(EXCERPT);
        let mut excerpt = [0; EXCERPT];
        excerpt[..len].copy_from_slice(&looks[..len]);
        self.ring.push_back(Step {
            at,
            what,
            number,
            excerpt,
            excerpt_len: len as u8,
        });
    }

    /// The steps as lines, oldest first, under a title.
    pub fn tell(&self, title: &str) -> String {
        let (kept, noted) = (self.ring.len(), self.noted);
        let mut text = format!("\n  the last {kept} of {noted} steps of {title}:\n");
        for step in &self.ring {
            let micros = step.at.as_micros();
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            let looks = step.excerpt[..usize::from(step.excerpt_len)].escape_ascii();
            let (what, number) = (step.what, step.number);
            let _infallible = writeln!(
                text,
                "    {seconds:3}.{rest:06} s  {what} {number:<6} {looks}"
            );
        }
        text
    }
}

/// How something looks, without the greater part of a long message.
pub fn brief(value: &dyn Debug) -> String {
    let mut text = format!("{value:?}");
    if let Some((at, _)) = text.char_indices().nth(250) {
        let len = text.len();
        text.truncate(at);
        let _infallible = write!(text, "… of {len} bytes");
    }
    text
}
