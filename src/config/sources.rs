//! Sources: collects the texts of options from flags and variables. It owns their precedence; it must not know what an
//! option is for.

use std::ffi::OsString;

use lexopt::Arg;

use super::Misuse;
use super::given::Given;
use super::help::{HELP_ADVICE, NAME_AND_VERSION, help, unexpected_argument, unknown_flag};
use super::table::OPTIONS;

/// The only argument that is not a flag.
const HEALTHCHECK: &str = "healthcheck";

/// What the arguments ask for.
pub(super) enum Mode {
    Run,
    Healthcheck,
    Print(String),
}

/// Takes the flags, in the order of the table; the last of each wins.
pub(super) fn take_flags(
    texts: &mut [Option<Given>],
    args: impl IntoIterator<Item = OsString>,
) -> Result<Mode, Misuse> {
    let mut mode = Mode::Run;
    let mut parser = lexopt::Parser::from_args(args);
    // The parser's own errors repeat values, which may be passwords.
    let unreadable = |_| Misuse(format!("cannot parse the arguments: {HELP_ADVICE}"));
    while let Some(argument) = parser.next().map_err(unreadable)? {
        let flag = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Mode::Print(help())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Mode::Print(format!("{NAME_AND_VERSION}\n")));
            }
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(text) if text == HEALTHCHECK && matches!(mode, Mode::Run) => {
                mode = Mode::Healthcheck;
                continue;
            }
            Arg::Value(text) => return Err(unexpected_argument(&text.to_string_lossy())),
        };
        let mut rows = OPTIONS.iter().zip(&mut *texts);
        let row = rows.find(|(option, _)| option.flag() == flag);
        let (option, text) = row.ok_or_else(|| unknown_flag(&flag))?;
        let value = match option.placeholder {
            "" => parser.optional_value().or(Some("true".into())),
            _ => parser.value().ok(),
        };
        let value = value.filter(|value| !value.is_empty());
        let missing = || Misuse(format!("{flag} needs a value: use {}", option.usage()));
        *text = Some(given(&flag, value.ok_or_else(missing)?)?);
    }
    Ok(mode)
}

/// Takes the variables of options that have no flag. An empty variable counts as not set, because Heroku and
/// docker-compose leave a variable empty that is meant to be absent.
pub(super) fn take_variables(
    texts: &mut [Option<Given>],
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Misuse> {
    let set = |name| Some((name, env(name).filter(|value| !value.is_empty())?));
    for (option, text) in OPTIONS.iter().zip(texts) {
        if text.is_none()
            && let Some((name, value)) = option.names().find_map(set)
        {
            *text = Some(given(name, value)?);
        }
    }
    Ok(())
}

fn given(name: &str, value: OsString) -> Result<Given, Misuse> {
    let refused = |_| Misuse(format!("{name}: the value is not UTF-8: use plain text"));
    let (name, value) = (name.to_owned(), value.into_string().map_err(refused)?);
    Ok(Given { name, value })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{command, config, misuse, tcp};
    use super::super::{Command, SourceConfig, parse};
    use super::*;
    use crate::net::Listen;

    #[test]
    fn flags_win_over_variables_and_the_last_flag_over_those_before() {
        let listen = |flags: &[&str], variables| config(flags, variables).listen;
        assert_eq!(
            listen(&["--port", "2"], &[("PORT", "1")]),
            Listen::Everywhere(2)
        );
        assert_eq!(
            listen(&["--port=2", "--port", "3"], &[]),
            Listen::Everywhere(3)
        );
        // An invalid variable is ignored if a flag overrides it.
        assert_eq!(
            listen(&["--port", "2"], &[("PORT", "x")]),
            Listen::Everywhere(2)
        );
        assert!(
            !config(&["--demo=false"], &[("DEMO", "true")])
                .server
                .reports
                .page_enabled
        );
        assert!(
            !config(&["--enable-raw-stream=no"], &[])
                .server
                .streams
                .raw_enabled
        );
    }

    #[test]
    fn a_boolean_flag_does_not_eat_the_next_argument() {
        assert_eq!(
            config(&["--demo", "--port", "4"], &[]).listen,
            Listen::Everywhere(4)
        );
        assert_eq!(
            misuse(&["--demo", "false"], &[]),
            "unexpected argument \"false\": use --flag=value, --help lists all flags"
        );
    }

    #[test]
    fn the_first_alias_that_is_set_wins_and_errors_name_it() {
        let node = |variables| config(&[], variables).server.node;
        assert_eq!(node(&[("RACK_ENV", "a"), ("NODE_ENV", "b")]), "rust-a-box");
        assert_eq!(node(&[("NODE_ENV", "b"), ("GO_ENV", "c")]), "rust-b-box");
        assert_eq!(node(&[("GO_ENV", "c")]), "rust-c-box");
        assert_eq!(
            node(&[("STREAMER_ENV", "d"), ("RACK_ENV", "a")]),
            "rust-d-box"
        );
        assert_eq!(
            node(&[("STREAMER_ENV", ""), ("RACK_ENV", "a")]),
            "rust-a-box"
        );
        let boxen = config(&[], &[("BOXEN_REDIS_URL", "redis://b")]).source;
        assert_eq!(boxen, SourceConfig::Redis(vec![tcp("b", 6379)]));
        let both = [("BOXEN_REDIS_URL", "redis://b"), ("REDIS_URL", "redis://a")];
        assert_eq!(
            config(&[], &both).source,
            SourceConfig::Redis(vec![tcp("a", 6379)])
        );
        assert_eq!(
            config(&[], &[("SSE_RECONNECT", "8")])
                .server
                .streams
                .score
                .retry_ms,
            Some(8)
        );
        assert_eq!(
            misuse(&[], &[("SSE_RECONNECT", "soon")]),
            "SSE_RECONNECT: \"soon\" is not a number from 0 to 3600000"
        );
    }

    #[test]
    fn an_empty_variable_is_not_set_and_an_empty_flag_is_refused() {
        let empty: Vec<_> = OPTIONS
            .iter()
            .flat_map(|option| option.names().map(|name| (name, "")))
            .collect();
        let config = config(&[], &empty);
        assert_eq!(config.listen, Listen::Everywhere(8001));
        assert_eq!(config.server.node, "rust-development-box");
        assert_eq!(
            misuse(&["--port="], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--port", ""], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--port"], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--demo="], &[]),
            "--demo needs a value: use --demo"
        );
    }

    #[cfg(unix)]
    #[test]
    fn values_that_are_not_utf_8_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(b"redis://secret\xFF".to_vec());
        for option in OPTIONS
            .iter()
            .filter(|option| !option.placeholder.is_empty())
        {
            for name in option.names() {
                let env = |asked: &str| (asked == name).then(broken);
                let refused = parse([], env, || None)
                    .map_err(|misuse| misuse.to_string())
                    .err();
                assert_eq!(
                    refused,
                    Some(format!("{name}: the value is not UTF-8: use plain text"))
                );
            }
            let flags = [OsString::from(option.flag()), broken()];
            let refused = parse(flags, |_| None, || None)
                .map_err(|misuse| misuse.to_string())
                .err();
            assert_eq!(
                refused,
                Some(format!(
                    "{}: the value is not UTF-8: use plain text",
                    option.flag()
                ))
            );
        }
        assert!(
            parse(
                [OsString::from_vec(b"--p\xFFrt".to_vec())],
                |_| None,
                || None
            )
            .is_err()
        );
        assert!(parse([broken()], |_| None, || None).is_err());
    }

    #[test]
    fn help_and_version_win_over_invalid_values() {
        for flags in [
            &["-h"][..],
            &["--help"],
            &["--port", "x", "--help"],
            &["-hV"],
            &["--demo", "-h", "--nope"],
        ] {
            assert!(
                matches!(command(flags, &[("PORT", "x")]), Ok(Command::Print(text)) if text == help()),
                "{flags:?}"
            );
        }
        for flags in [["-V"], ["--version"]] {
            assert!(
                matches!(command(&flags, &[("PORT", "x")]), Ok(Command::Print(text))
                    if text == format!("{NAME_AND_VERSION}\n")),
                "{flags:?}"
            );
        }
    }
}
