//! Help: the text of `--help`, and the errors for unknown arguments. It owns their layout and wording; the options
//! themselves are in `table`.

use super::Misuse;
use super::table::{DefaultText, OPTIONS, flag_of};

/// The text of `--version`.
pub const NAME_AND_VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = HELP_HEAD.to_owned();
    for option in OPTIONS {
        let (DefaultText::Value(default) | DefaultText::Words(default)) = option.default;
        let help = format!("{} ({default})", option.help);
        text += &row(&option.usage(), option.variable, &help);
        if !option.aliases.is_empty() {
            text += &row("", "", &format!("also {}", option.aliases.join(", ")));
        }
    }
    text += &row("-h, --help", "", "print this help");
    text += &row("-V, --version", "", "print the version");
    text + HELP_TAIL
}

const HELP_HEAD: &str = "\
emojitrack-streamer: a Server-Sent Events server that delivers Redis pub/sub to many browsers

Usage: emojitrack-streamer [FLAGS]
       emojitrack-streamer healthcheck [FLAGS]

Each option is a flag and an environment variable (flags win); defaults are in parentheses:
";

const HELP_TAIL: &str = "
A flag shown without a value is a boolean: --demo means --demo=true. A boolean is one of true, t,
yes, y, 1 or false, f, no, n, 0, in any case. An empty environment variable counts as not set.

Force refresh (SSE_FORCE_REFRESH) is for routers that hide disconnects: the server closes each
stream at the end of its lifetime, and the client reconnects after the time given in retry:.

Metric paths begin with [<API key>.][<prefix>.]<DYNO>. An API key without GRAPHITE_URL sends them
to udp://carbon.hostedgraphite.com:2003. Pass secrets as variables rather than flags, which other
users can see in the process list.

healthcheck requests /healthz from the server that runs on this machine with the same settings.
It exits with 0 if that server is alive, and with 1 otherwise.

Examples:
  emojitrack-streamer --demo
  curl -N localhost:8001/subscribe/eps

  REDIS_URL=redis://broker:6379 emojitrack-streamer --port 80 --sse-force-refresh
";

/// Widths of the flag and variable columns, and where the help begins.
const FLAG_COLUMNS: usize = 26;
const VARIABLE_COLUMNS: usize = 20;
const HELP_START: usize = 2 + FLAG_COLUMNS + 2 + VARIABLE_COLUMNS + 2;
const COLUMNS: usize = 100;

fn row(flag: &str, variable: &str, help: &str) -> String {
    let mut text = String::new();
    let mut line = format!("  {flag:FLAG_COLUMNS$}  {variable:VARIABLE_COLUMNS$} ");
    // After a long name, the help begins on the next line.
    let mut is_full = line.len() >= HELP_START;
    for word in help.split(' ') {
        if is_full || line.len() + 1 + word.len() > COLUMNS {
            text = text + line.trim_end() + "\n";
            line = " ".repeat(HELP_START - 1);
            is_full = false;
        }
        line = line + " " + word;
    }
    text + &line + "\n"
}

/// A flag is suggested for at most this many typing mistakes; two swapped letters count as two.
const TYPOS_MAX: usize = 2;

pub(super) const HELP_ADVICE: &str = "--help lists all flags";

/// An argument that belongs to no flag, by its place among all. It is not shown, because it may be a secret whose flag was
/// forgotten.
pub(super) fn unexpected_argument(position: usize) -> Misuse {
    Misuse(format!(
        "argument {position} (not shown, it may be a password) belongs to no flag: use --flag=value, {HELP_ADVICE}"
    ))
}

/// A flag that does not exist, by its place among all arguments. It is shown only if it resembles one that does: anything
/// else may be a secret that begins with a dash, or that follows a flag without a separator. What stands before a `=` may
/// be one as well, because secrets in base64 end with it.
pub(super) fn unknown_flag(flag: &str, position: usize) -> Misuse {
    let Some(nearest) = nearest_flag(flag) else {
        return Misuse(format!(
            "argument {position} (not shown, it may be a password) is an unknown flag: {HELP_ADVICE}"
        ));
    };
    let flag = flag.escape_debug();
    Misuse(format!(
        "unknown flag {flag}: did you mean {nearest}? {HELP_ADVICE}"
    ))
}

/// The flag that was probably meant. An alias has no flag of its own, and suggests that of its option.
fn nearest_flag(flag: &str) -> Option<String> {
    let typed = flag_of(flag.trim_start_matches('-'));
    let options = OPTIONS
        .iter()
        .flat_map(|option| option.names().map(|name| (name, option.variable)));
    let known = [("HELP", "HELP"), ("VERSION", "VERSION")]
        .into_iter()
        .chain(options);
    // Each letter that one has more than the other is a mistake.
    let near = known.filter(|(name, _)| flag_of(name).len().abs_diff(typed.len()) <= TYPOS_MAX);
    let rated = near.map(|(name, variable)| (edit_distance(&typed, &flag_of(name)), variable));
    let (typos, nearest) = rated.min_by_key(|(typos, _)| *typos)?;
    (typos <= TYPOS_MAX).then(|| flag_of(nearest))
}

/// The Levenshtein distance: how many letters to insert, delete or replace.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, left) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(left != *right);
            current.push(replaced.min(above[column + 1] + 1).min(current[column] + 1));
        }
        above = current;
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{command, misuse};
    use super::*;

    #[test]
    fn unknown_flags_and_arguments() {
        #[rustfmt::skip]
        let table: &[(&[&str], &str)] = &[
            (&["--prot", "1"], "unknown flag --prot: did you mean --port? --help lists all flags"),
            (&["--PORT=1"], "unknown flag --PORT: did you mean --port? --help lists all flags"),
            (&["--demo_rate=1"], "unknown flag --demo_rate: did you mean --demo-rate? --help lists all flags"),
            (&["--go-env=x"], "unknown flag --go-env: did you mean --streamer-env? --help lists all flags"),
            (&["--sse-reconnect"],
                "unknown flag --sse-reconnect: did you mean --sse-reconnect-ms? --help lists all flags"),
            (&["--hlep"], "unknown flag --hlep: did you mean --help? --help lists all flags"),
            (&["--frobnicate"],
                "argument 1 (not shown, it may be a password) is an unknown flag: --help lists all flags"),
            (&["--demo", "--port", "1", "--frobnicate=x", "y"],
                "argument 4 (not shown, it may be a password) is an unknown flag: --help lists all flags"),
            (&["--dem\no"], "unknown flag --dem\\no: did you mean --demo? --help lists all flags"),
            (&["--demo", "-p80"],
                "argument 2 (not shown, it may be a password) is an unknown flag: --help lists all flags"),
            (&["--port=1", "serve", "x"],
                "argument 2 (not shown, it may be a password) belongs to no flag: use --flag=value, \
                --help lists all flags"),
            (&["--", "--demo"],
                "argument 2 (not shown, it may be a password) belongs to no flag: use --flag=value, \
                --help lists all flags"),
        ];
        for (flags, expected) in table {
            assert_eq!(misuse(flags, &[]), *expected);
        }
        assert_eq!((edit_distance("", "abc"), edit_distance("abc", "")), (3, 3));
        assert_eq!(
            (edit_distance("kitten", "sitting"), edit_distance("é", "e")),
            (3, 1)
        );
    }

    #[test]
    fn the_help_text_names_every_option_in_aligned_columns() {
        let help = help();
        for line in help.lines() {
            assert!(line.len() <= 100 && line == line.trim_end(), "{line:?}");
        }
        // Help texts may be wrapped.
        let words: Vec<&str> = help.split_whitespace().collect();
        let words = words.join(" ");
        for option in OPTIONS {
            let usage = format!("  {} ", option.usage());
            let mut rows = help.lines().filter(|line| line.starts_with(&usage));
            assert!(
                rows.any(|row| row.contains(option.variable)),
                "{}",
                option.variable
            );
            let (DefaultText::Value(default) | DefaultText::Words(default)) = option.default;
            let (usage, variable, help) = (option.usage(), option.variable, option.help);
            let row = format!("{usage} {variable} {help} ({default}) ");
            assert!(words.contains(&row), "{row}");
            for alias in option.aliases {
                assert!(words.contains(alias), "{alias}");
            }
        }
        let rows = [
            "  --port PORT                 PORT                  port to listen on; 0 for any free port (8001)\n",
            "                                                    also RACK_ENV, NODE_ENV, GO_ENV\n",
            "  --enable-kiosk-interaction-stream  ENABLE_KIOSK_INTERACTION_STREAM\n                      ",
            "  --channels GLOB,...         CHANNELS              channels that clients may subscribe to, as in\n\
             \x20                                                   news,room.* (none)\n",
            "\n  emojitrack-streamer --demo\n  curl -N localhost:8001/subscribe/eps\n",
        ];
        for row in rows {
            assert!(help.contains(row), "{row}");
        }
    }

    #[test]
    fn every_default_is_accepted_by_its_own_parser() {
        for option in OPTIONS {
            if let DefaultText::Value(default) = option.default {
                let joined = format!("{}={default}", option.flag());
                assert!(command(&[&joined], &[]).is_ok(), "{joined}");
            }
        }
    }
}
