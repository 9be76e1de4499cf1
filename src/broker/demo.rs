//! Demo: an embedded feeder, for a server without a broker. It decides which updates there are, when they are due and
//! what their tweets say, all drawn from one seed. It does not read a clock, and of subscribers knows only whether there
//! are any.

use std::time::Duration;

use super::{Audience, Broker, Message, Received, State};
use crate::limits::DEMO_RATE_MAX;
use crate::net::Net;
use crate::random::Random;
use crate::time::{Time, civil_date};

/// How far the feeder catches up if it was not polled for a while. A suspended machine would otherwise wake up to hours
/// of updates, which nobody has missed.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

const RANKINGS: &str = include_str!("emoji_rankings.tsv");
const VOICES: &str = include_str!("demo_voices.tsv");

// The clock counts microseconds, and every interval must have at least one.
const _: () = assert!(DEMO_RATE_MAX <= 1_000_000);

/// The feeder. It is silent until somebody listens.
#[derive(Debug)]
pub struct Demo {
    per_second: u32,
    unix_origin_ms: u64,
    choices: Vec<Choice>,
    voices: Vec<Voice>,
    /// Draws the scores.
    random: Random,
    /// Draws the tweets, so that the scores are the same whether tweets are made or not.
    tweet_random: Random,
    /// The start of the second that is divided into `per_second` intervals of one update each.
    second: Time,
    /// The interval of the next update.
    interval: u32,
    /// When that update is due; `None` while nobody listens.
    due: Option<Time>,
    /// The emoji whose score was sent and whose tweet is next, as an index.
    tweeting: Option<usize>,
    tweet_id: u64,
    /// Whether tweets are made, which takes some microseconds each.
    tweets: bool,
    /// Until when updates are kept back.
    rest_until: Option<Time>,
}

/// One emoji that can be drawn.
#[derive(Debug)]
struct Choice {
    id: &'static str,
    text: String,
    /// The weights of this choice and of all before it.
    weight_end: u64,
}

/// The names and sentences of one language, so that an author and a text match.
#[derive(Debug)]
struct Voice {
    names: Vec<&'static str>,
    sentences: Vec<&'static str>,
}

impl Demo {
    /// A feeder of `per_second` updates a second (at least 1 and at most [`DEMO_RATE_MAX`]), drawn from `seed`.
    /// `unix_origin_ms` is the wall clock at [`Time::ZERO`], for the dates of the tweets.
    pub fn new(per_second: u32, seed: u64, unix_origin_ms: u64) -> Demo {
        Demo {
            per_second: per_second.clamp(1, DEMO_RATE_MAX),
            unix_origin_ms,
            choices: choices(),
            voices: voices(),
            random: Random::new(seed),
            tweet_random: Random::new(!seed),
            second: Time::ZERO,
            interval: 0,
            due: None,
            tweeting: None,
            tweet_id: 0,
            tweets: true,
            rest_until: None,
        }
    }

    /// Tells whether anybody listens. After a pause the schedule begins at `now`: there is no burst of what was missed.
    pub fn set_listened(&mut self, listened: bool, now: Time) {
        if !listened {
            self.due = None;
            self.tweeting = None;
        } else if self.due.is_none() {
            self.start_at(now);
        }
    }

    /// The next message that is due: for each update first its `stream.score_updates`, then its
    /// `stream.tweet_updates.<id>`. If time has jumped, only the last second is made up for. Polling may stop early; the
    /// deadline then stays in the past.
    pub fn next_message(&mut self, now: Time) -> Option<Message> {
        if let (Some(index), Some(due)) = (self.tweeting.take(), self.due) {
            self.advance();
            if self.tweets {
                return self.tweet(index, due);
            }
        }
        let due = self.due.filter(|&due| due <= now)?;
        if now.since(due) >= CATCH_UP_MAX {
            self.start_at(now - CATCH_UP_MAX);
        }
        let ticket = self.random.below(self.choices.last()?.weight_end);
        let drawn = |choice: &Choice| choice.weight_end <= ticket;
        let index = self.choices.partition_point(drawn);
        self.tweeting = Some(index);
        let id = self.choices.get(index)?.id;
        Some(message("stream.score_updates".to_owned(), id.to_owned()))
    }

    fn tweet(&mut self, index: usize, due: Time) -> Option<Message> {
        let unix_ms = self.unix_origin_ms.saturating_add(due.as_micros() / 1_000);
        let random = &mut self.tweet_random;
        self.tweet_id = next_tweet_id(self.tweet_id, unix_ms, random);
        let choice = self.choices.get(index)?;
        let voice = random.below(self.voices.len().max(1) as u64) as usize;
        let voice = self.voices.get(voice)?;
        let tweet = tweet_json(voice, self.tweet_id, unix_ms, &choice.text, random);
        Some(message(
            format!("stream.tweet_updates.{}", choice.id),
            tweet,
        ))
    }

    fn start_at(&mut self, start: Time) {
        self.second = start;
        self.interval = 0;
        self.tweeting = None;
        self.draw_due();
    }

    fn advance(&mut self) {
        self.interval += 1;
        if self.interval == self.per_second {
            self.interval = 0;
            self.second = self.second + Duration::from_secs(1);
        }
        self.draw_due();
    }

    /// Draws a moment after the start of the interval and not after its end. Each interval has one update, so that every
    /// second has exactly `per_second`, and rounding errors do not add up. With the start excluded, a schedule that ends
    /// at a moment and one that begins there do not collide.
    fn draw_due(&mut self) {
        let interval = u64::from(self.interval);
        let per_second = u64::from(self.per_second);
        let start_micros = interval * 1_000_000 / per_second;
        let end_micros = (interval + 1) * 1_000_000 / per_second;
        let jitter_micros = 1 + self.random.below(end_micros - start_micros);
        self.due = Some(self.second + Duration::from_micros(start_micros + jitter_micros));
    }
}

impl<N: Net> Broker<N> for Demo {
    fn rest(&mut self, until: Option<Time>, _: &mut N) {
        self.rest_until = until;
    }

    fn set_audience(&mut self, audience: Audience, now: Time) {
        self.set_listened(audience.is_there, now);
        self.tweets = audience.wants_tweets;
    }

    fn poll_message(&mut self, _: &mut N, may_read: bool, now: Time) -> Option<Received> {
        if !may_read || self.rest_until.is_some_and(|until| until > now) {
            return None;
        }
        self.next_message(now).map(Received::BySubscription)
    }

    fn deadline(&self, _may_read: bool) -> Option<Time> {
        self.due.filter(|_| self.rest_until.is_none())
    }

    fn state(&self, now: Time) -> State<'_> {
        State::internal("demo", now)
    }
}

fn message(channel: String, payload: String) -> Message {
    Message {
        pattern: None,
        channel: channel.into_bytes(),
        payload: payload.into_bytes(),
        is_too_large: false,
    }
}

/// The lines of a table, each as its fields.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect())
}

/// All emoji, the most used first: the unified ID, the score and the Unicode name.
pub fn emoji() -> impl Iterator<Item = (&'static str, u64, &'static str)> {
    rows(RANKINGS).filter_map(|row| {
        let [id, score, name] = row[..] else {
            return None;
        };
        Some((id, score.parse().ok()?, name))
    })
}

/// What can be drawn, weighted by the square roots of the real scores. With the scores themselves, one update in ten
/// would be the same face, and the last emoji would appear every half minute at 5,000 updates a second. With the roots,
/// at 250 updates a second, the first appears every quarter of a second and the last twice a minute.
fn choices() -> Vec<Choice> {
    let mut weight_end = 0;
    let choices = emoji().filter_map(|(id, score, _)| {
        let text = decode(id)?;
        weight_end += score.isqrt().max(1);
        Some(Choice {
            id,
            text,
            weight_end,
        })
    });
    choices.collect()
}

fn voices() -> Vec<Voice> {
    let mut rows = rows(VOICES);
    let next = || {
        let (names, sentences) = (rows.next()?, rows.next()?);
        Some(Voice { names, sentences })
    };
    std::iter::from_fn(next).collect()
}

const HANDLES: &[&str] = &[
    "bluebird", "cafe_", "daydream", "echo_", "firefly", "garden", "harbor_", "kite", "lemon",
    "mellow_", "nightowl", "pixel", "river_", "sunny", "tiny_", "wander",
];

/// The characters that a unified ID stands for: hexadecimal code points joined by hyphens.
fn decode(id: &str) -> Option<String> {
    id.split('-')
        .map(|code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32))
        .collect()
}

/// A tweet ID like the real ones: 41 bits of milliseconds since Twitter's epoch, and 22 bits for the machine and the
/// sequence. It is above the previous one even if the clock stands still.
fn next_tweet_id(previous: u64, unix_ms: u64, random: &mut Random) -> u64 {
    const TWITTER_EPOCH_MS: u64 = 1_288_834_974_657;
    let age_ms = unix_ms.saturating_sub(TWITTER_EPOCH_MS) & ((1 << 41) - 1);
    let low_bits = random.below(1 << 22);
    ((age_ms << 22) | low_bits).max(previous + 1)
}

/// A tweet like those of the real feeder, with the keys in the same order.
fn tweet_json(voice: &Voice, id: u64, unix_ms: u64, emoji: &str, random: &mut Random) -> String {
    let author = random.below(10_000);
    let name = pick(&voice.names, random);
    let handle = pick(HANDLES, random);
    let text = tweet_text(voice, emoji, random);
    format!(
        "{{\"id\":{},\"text\":{},\"screen_name\":{},\"name\":{},\"links\":[],\
         \"profile_image_url\":{},\"created_at\":{}}}",
        quoted(id.to_string()),
        quoted(text),
        quoted(format!("{handle}{author}")),
        quoted(name.to_owned()),
        quoted(format!("https://example.com/avatars/{author}.png")),
        quoted(timestamp(unix_ms)),
    )
}

fn tweet_text(voice: &Voice, emoji: &str, random: &mut Random) -> String {
    let first = pick(&voice.sentences, random).replace("\\n", "\n");
    let second = pick(&voice.sentences, random).replace("\\n", "\n");
    match random.below(6) {
        0 => format!("{emoji} {first}"),
        1 => format!("{first} {emoji}{emoji}{emoji}"),
        2 if first != second => format!("{first} {emoji} {second}"),
        3 if first != second => format!("{first} {second} {emoji}"),
        _ => format!("{first} {emoji}"),
    }
}

fn pick(list: &[&'static str], random: &mut Random) -> &'static str {
    let index = random.below(list.len().max(1) as u64) as usize;
    list.get(index).copied().unwrap_or_default()
}

fn quoted(text: String) -> String {
    serde_json::Value::String(text).to_string()
}

/// A date and time in UTC, such as `2014-04-02T03:15:52+00:00`.
fn timestamp(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UNIX_ORIGIN_MS: u64 = 1_396_408_552_000;

    fn listened(per_second: u32, seed: u64) -> Demo {
        let mut demo = Demo::new(per_second, seed, UNIX_ORIGIN_MS);
        demo.set_listened(true, Time::ZERO);
        demo
    }

    fn messages(demo: &mut Demo, now: Time) -> Vec<Message> {
        std::iter::from_fn(|| demo.next_message(now)).collect()
    }

    fn at_ms(milliseconds: u64) -> Time {
        Time::from_micros(milliseconds * 1_000)
    }

    #[test]
    fn scores_are_the_same_whether_tweets_are_made_or_not() {
        let scores = |tweets: bool| -> Vec<Vec<u8>> {
            let mut demo = listened(250, 7);
            demo.tweets = tweets;
            let messages = std::iter::from_fn(|| demo.next_message(Time::from_micros(900_000)));
            let messages: Vec<Message> = messages.collect();
            let (scores, others): (Vec<Message>, Vec<Message>) = messages
                .into_iter()
                .partition(|message| message.channel == b"stream.score_updates");
            assert_eq!(others.len(), if tweets { scores.len() } else { 0 });
            scores.into_iter().map(|score| score.payload).collect()
        };
        assert!(scores(true).len() > 200);
        assert_eq!(scores(true), scores(false));
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let first = messages(&mut listened(250, 7), at_ms(900));
        let second = messages(&mut listened(250, 7), at_ms(900));
        let other = messages(&mut listened(250, 8), at_ms(900));
        assert!(!first.is_empty());
        assert_eq!(first, second);
        assert_ne!(first, other);
    }

    #[test]
    fn the_rate_holds_over_ten_seconds() {
        for per_second in [1, 7, 250, 10_000] {
            let mut demo = listened(per_second, 1);
            let mut count = 0;
            for turn in 1..=1_000 {
                count += messages(&mut demo, at_ms(turn * 10)).len();
            }
            assert_eq!(count, 2 * 10 * per_second as usize, "{per_second} a second");
        }
    }

    #[test]
    fn rates_out_of_range_are_clamped() {
        assert_eq!(messages(&mut listened(0, 1), at_ms(1_000)).len(), 2);
        let fastest = messages(&mut listened(u32::MAX, 1), at_ms(500));
        assert_eq!(fastest.len(), DEMO_RATE_MAX as usize);
    }

    #[test]
    fn deadlines_rise_and_every_one_has_its_update() {
        let mut demo = listened(400, 3);
        let mut previous = Time::ZERO;
        for _ in 0..2_000 {
            let due = demo.due.unwrap();
            assert!(due > previous && due.since(previous) <= Duration::from_millis(5));
            assert_eq!(demo.next_message(due - Duration::from_micros(1)), None);
            assert!(demo.next_message(due).is_some());
            assert_eq!(demo.due, Some(due), "its tweet is still to come");
            assert!(demo.next_message(due).is_some());
            previous = due;
        }
    }

    #[test]
    fn it_is_silent_while_nobody_listens() {
        let mut demo = Demo::new(250, 1, UNIX_ORIGIN_MS);
        assert_eq!(demo.due, None);
        assert_eq!(demo.next_message(at_ms(5_000)), None);
        demo.set_listened(true, at_ms(5_000));
        assert!(demo.due.is_some());
        assert!(demo.next_message(at_ms(5_100)).is_some());
        demo.set_listened(false, at_ms(5_100));
        assert_eq!(demo.due, None);
        assert_eq!(demo.next_message(at_ms(9_000)), None);
    }

    #[test]
    fn resuming_brings_no_burst() {
        let mut demo = listened(250, 1);
        assert_eq!(messages(&mut demo, at_ms(1_000)).len(), 500);
        demo.set_listened(false, at_ms(1_000));
        let resumed = at_ms(60_000);
        demo.set_listened(true, resumed);
        assert_eq!(messages(&mut demo, resumed), []);
        assert_eq!(messages(&mut demo, at_ms(60_100)).len(), 50);
    }

    #[test]
    fn telling_the_same_again_does_not_disturb_the_schedule() {
        let mut told_once = listened(250, 1);
        let mut told_often = listened(250, 1);
        for turn in 1..200 {
            told_often.set_listened(true, at_ms(turn * 7));
            let expected = messages(&mut told_once, at_ms(turn * 7));
            assert_eq!(messages(&mut told_often, at_ms(turn * 7)), expected);
        }
    }

    #[test]
    fn a_jump_of_an_hour_makes_up_for_one_second() {
        for per_second in [1, 3, 250, 10_000] {
            let mut demo = listened(per_second, 1);
            let hour = at_ms(3_600_000);
            let count = messages(&mut demo, hour).len();
            assert_eq!(count, 2 * per_second as usize);
            let next = demo.due.unwrap();
            assert!(next > hour && next.since(hour) <= Duration::from_secs(1));
        }
    }

    #[test]
    fn every_score_is_followed_by_its_tweet() {
        let mut demo = listened(5_000, 11);
        let all = messages(&mut demo, at_ms(990));
        let mut previous_id = 0;
        for pair in all.chunks(2) {
            let (score, tweet) = (&pair[0], &pair[1]);
            assert_eq!(score.channel, b"stream.score_updates");
            let id = std::str::from_utf8(&score.payload).unwrap();
            assert_eq!(
                tweet.channel,
                format!("stream.tweet_updates.{id}").into_bytes()
            );
            assert!(!tweet.payload.contains(&b'\n'), "one line each");
            let json: serde_json::Value = serde_json::from_slice(&tweet.payload).unwrap();
            let text = json["text"].as_str().unwrap();
            assert!(text.contains(&decode(id).unwrap()), "{text} lacks {id}");
            let tweet_id: u64 = json["id"].as_str().unwrap().parse().unwrap();
            assert!(tweet_id > previous_id);
            previous_id = tweet_id;
            assert_eq!(json["created_at"], "2014-04-02T03:15:52+00:00");
            assert!(!json["name"].as_str().unwrap().is_empty());
            assert!(!json["screen_name"].as_str().unwrap().is_empty());
            assert_eq!(json["links"], serde_json::json!([]));
        }
    }

    #[test]
    fn tweet_ids_rise_under_any_clock() {
        let mut random = Random::new(1);
        let mut previous = 0;
        for unix_ms in [0, 0, UNIX_ORIGIN_MS, UNIX_ORIGIN_MS, 5, u64::MAX, u64::MAX] {
            let next = next_tweet_id(previous, unix_ms, &mut random);
            assert!(next > previous);
            previous = next;
        }
    }

    #[test]
    fn the_first_emoji_comes_more_often_than_the_last_and_both_come() {
        let mut demo = listened(10_000, 5);
        let first = emoji().next().unwrap().0.as_bytes();
        let last = emoji().last().unwrap().0.as_bytes();
        let (mut firsts, mut lasts) = (0, 0);
        for turn in 1..=200 {
            for message in messages(&mut demo, at_ms(turn * 100)) {
                firsts += usize::from(message.payload == first);
                lasts += usize::from(message.payload == last);
            }
        }
        assert!((3_000..4_000).contains(&firsts), "{firsts} of 200,000");
        assert!((10..60).contains(&lasts), "{lasts} of 200,000");
    }

    #[test]
    fn every_row_of_the_table_is_well_formed() {
        let mut previous_score = u64::MAX;
        for (id, score, name) in emoji() {
            let is_hexadecimal = |code: &str| {
                (4..=5).contains(&code.len())
                    && code
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
            };
            assert!(id.split('-').all(is_hexadecimal), "{id}");
            assert!(decode(id).is_some(), "{id}");
            assert!(score > 0 && score <= previous_score, "{id}");
            assert!(!name.is_empty(), "{id}");
            previous_score = score;
        }
        assert_eq!(emoji().count(), 845);
        assert_eq!(choices().len(), 845);
        let mut ids: Vec<&str> = emoji().map(|(id, _, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 845, "an ID occurs twice");
    }

    #[test]
    fn ids_of_several_code_points_decode() {
        assert_eq!(decode("1F1FA-1F1F8").as_deref(), Some("\u{1F1FA}\u{1F1F8}"));
        assert_eq!(decode("0023-20E3").as_deref(), Some("#\u{20E3}"));
        for malformed in ["", "-", "1F602-", "D800", "110000", "xyz"] {
            assert_eq!(decode(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(timestamp(951_782_399_999), "2000-02-28T23:59:59+00:00");
        assert_eq!(timestamp(951_782_400_000), "2000-02-29T00:00:00+00:00");
        assert_eq!(timestamp(1_709_251_200_000), "2024-03-01T00:00:00+00:00");
        assert_eq!(timestamp(4_107_542_400_000), "2100-03-01T00:00:00+00:00");
        assert_eq!(timestamp(1_767_225_599_000), "2025-12-31T23:59:59+00:00");
    }
}
