//! Raw: each option's text, from the command line, the environment or its default. It owns who wins over whom,
//! and how booleans and numbers are written; it must not know what an option is for.

use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use lexopt::Arg;

use super::Misuse;
use super::options::{Definition, HELP_ADVICE, Key, OPTIONS, unexpected_argument, unknown_flag};

const BOOLEANS: &str = "a boolean: use true t yes y 1 or false f no n 0";

/// What the command line asks for beside the options.
pub(super) enum Asked {
    Run,
    Healthcheck,
    Help,
    Version,
}

/// The only argument that is not a flag.
const HEALTHCHECK: &str = "healthcheck";

/// The text of each option as typed, or else its default, in the order of `OPTIONS`.
pub(super) struct Raw(Vec<Given>);

pub(super) struct Given {
    /// What the deployer wrote it under: a flag or a variable.
    pub(super) name: String,
    pub(super) value: String,
    pub(super) is_default: bool,
}

impl Raw {
    pub(super) fn defaults() -> Raw {
        let default = |option: &Definition| Given {
            name: option.variable.to_owned(),
            value: option.default.to_owned(),
            is_default: true,
        };
        Raw(OPTIONS.iter().map(default).collect())
    }

    /// Takes the flags; what is asked for.
    pub(super) fn take_flags(
        &mut self,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Asked, Misuse> {
        let mut asked = Asked::Run;
        let mut parser = lexopt::Parser::from_args(args);
        // The parser's own errors repeat values, which may be passwords.
        let unreadable = |_| Misuse(format!("the flags cannot be read: {HELP_ADVICE}"));
        while let Some(argument) = parser.next().map_err(unreadable)? {
            let flag = match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Asked::Version),
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Long(name) => format!("--{name}"),
                Arg::Value(text) if text == HEALTHCHECK && matches!(asked, Asked::Run) => {
                    asked = Asked::Healthcheck;
                    continue;
                }
                Arg::Value(text) => return Err(unexpected_argument(&text.to_string_lossy())),
            };
            let known = OPTIONS.iter().find(|option| option.flag() == flag);
            let option = known.ok_or_else(|| unknown_flag(&flag))?;
            let value = match option.placeholder {
                "" => parser.optional_value().or(Some("true".into())),
                _ => parser.value().ok(),
            };
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                let usage = option.usage();
                return Err(Misuse(format!("{flag} needs a value: use {usage}")));
            };
            self.0[option.key as usize] = Given::new(&flag, value)?;
        }
        Ok(asked)
    }

    /// Takes from the environment what no flag has given.
    pub(super) fn take_variables(
        &mut self,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), Misuse> {
        // Heroku and docker-compose set to nothing what is meant to be absent.
        let set = |name| Some((name, env(name).filter(|value| !value.is_empty())?));
        for (option, given) in OPTIONS.iter().zip(&mut self.0) {
            if let (true, Some((name, value))) = (given.is_default, option.names().find_map(set)) {
                *given = Given::new(name, value)?;
            }
        }
        Ok(())
    }
    pub(super) fn boolean(&self, key: Key) -> Result<bool, Misuse> {
        let given = self.get(key);
        match given.value.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "0" => Ok(false),
            _ => Err(given.refuse(&given.value, BOOLEANS)),
        }
    }

    pub(super) fn number<N>(
        &self,
        key: Key,
        noun: &str,
        allowed: RangeInclusive<N>,
    ) -> Result<N, Misuse>
    where
        N: FromStr + PartialOrd + fmt::Display,
    {
        let given = self.get(key);
        let number = digits(&given.value).filter(|number| allowed.contains(number));
        let (least, most) = allowed.into_inner();
        let forms = format!("{noun}: use a number from {least} to {most}");
        number.ok_or_else(|| given.refuse(&given.value, &forms))
    }

    pub(super) fn get(&self, key: Key) -> &Given {
        &self.0[key as usize]
    }
}

impl Given {
    fn new(name: &str, value: OsString) -> Result<Given, Misuse> {
        let refused = |_| Misuse(format!("{name}: the value is not UTF-8: use plain text"));
        let (name, value) = (name.to_owned(), value.into_string().map_err(refused)?);
        Ok(Given {
            name,
            value,
            is_default: false,
        })
    }

    /// The refusal of the value, or of one entry of it.
    pub(super) fn refuse(&self, entry: &str, forms: &str) -> Misuse {
        Misuse(format!("{}: {entry:?} is not {forms}", self.name))
    }

    /// The same for a value that nobody is to read.
    pub(super) fn refuse_secret(&self, forms: &str) -> Misuse {
        Misuse(format!(
            "{}: the value (a secret, not shown) is not {forms}",
            self.name
        ))
    }
}

/// A number of digits alone: the standard parser would take a plus sign too.
pub(super) fn digits<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}
