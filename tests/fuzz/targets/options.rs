//! Options: any value is taken, or refused in one line that does not repeat a secret; what is shown can be given again.

use std::collections::HashMap;
use std::ffi::OsString;

use emojitrack_streamer::config::{self, Command};

/// Long enough not to occur by chance.
const SECRET: &str = "s3cr3t-0f-th3-0p3r4t0r";

/// Options whose values are secrets, or hold one.
const SECRETS: [&str; 6] = [
    "ADMIN_TOKEN",
    "HOSTEDGRAPHITE_APIKEY",
    "PUBLISH_KEY",
    "REDIS_URL",
    "REDIS_PUBLISH_URL",
    "AMQP_URL",
];

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // A fuzzer may find the secret in this program. Elsewhere than in its places, it is none.
    if text.replace("{secret}", "").contains(SECRET) {
        return;
    }
    let mut variables: HashMap<&str, String> = HashMap::new();
    let mut flags: Vec<OsString> = Vec::new();
    for line in text.lines() {
        match line.split_once('=') {
            Some((name, value)) if !name.starts_with('-') => {
                variables.insert(name, with_secret(name, value));
            }
            _ => flags.push(line.to_owned().into()),
        }
    }
    let parse = |flags: Vec<OsString>| {
        let variable = |name: &str| variables.get(name).map(OsString::from);
        config::parse(flags, variable, || Some("box".to_owned()))
    };
    match parse(flags) {
        Ok(Command::Run(config)) => {
            let line = config.settings_line();
            assert!(!line.contains(SECRET), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        Ok(_) => {}
        Err(misuse) => {
            let line = misuse.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(!line.is_empty() && !line.contains(SECRET), "{line}");
        }
    }
}

/// The value with the secret where it has a place for one. Elsewhere it is none: in a URL only the password is.
fn with_secret(name: &str, value: &str) -> String {
    if !SECRETS.contains(&name) {
        return value.replace("{secret}", "");
    }
    if !name.ends_with("_URL") {
        return value.replace("{secret}", SECRET);
    }
    let is_user = |text: &str| !text.contains(['/', '?', '#', '@']);
    let password = value.split_once(":{secret}@").filter(|(before, _)| {
        let user = before.rsplit_once("://");
        user.is_some_and(|(_, user)| is_user(user))
    });
    let value = match password {
        Some((before, after)) => format!("{before}:{SECRET}@{after}"),
        None => value.to_owned(),
    };
    value.replace("{secret}", "")
}
