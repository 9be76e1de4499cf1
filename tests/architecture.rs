//! The rules of the house, checked on the source text: imports go one way, system calls stay in one
//! room, and files can be read in one sitting.

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of this crate each module may name. What a row does not list is forbidden.
const IMPORTS: &[(&str, &[&str])] = &[
    ("glob", &[]),
    ("level", &[]),
    ("limits", &[]),
    ("time", &[]),
    ("random", &[]),
    ("bus", &["limits", "time"]),
    ("http", &["limits", "time"]),
    (
        "broker",
        &["glob", "level", "limits", "net", "random", "time"],
    ),
    (
        "report",
        &[
            "broker::Message",
            "broker::Store",
            "broker::Unanswered",
            "broker::link",
            "http::reply::Reply",
            "level",
            "limits",
            "net",
            "server::stats",
            "time",
        ],
    ),
    ("net", &["level", "limits", "random", "time"]),
    (
        "config",
        &[
            "broker",
            "glob",
            "http::authorization::Secret",
            "http::target::percent_decode",
            "level",
            "limits",
            "net::Listen",
            "random",
            "report::graphite",
            "server::is_own_channel",
            "server::settings",
        ],
    ),
    (
        "server",
        &[
            "broker", "bus", "glob", "http", "level", "limits", "net", "random", "report", "time",
        ],
    ),
    (
        "reactor",
        &[
            "broker", "http", "level", "limits", "net", "report", "server", "time",
        ],
    ),
];

/// What only `net` may use: the ways to the operating system. The program's entry reads arguments, the
/// environment and the machine's name.
const SYSTEM: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "mio::",
    "socket2::",
    "signal_hook",
    "TcpStream",
    "UnixStream",
    "stderr",
    "println!",
    "std::env",
];

/// Lines before the tests.
const LINES_MAX: usize = 500;

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = module_of(&file);
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            assert!(
                module == "lib" || module == "main",
                "{module} has no row in the table"
            );
            continue;
        };
        for (number, line) in code_lines(&text) {
            for path in paths_in(line) {
                let own = path == module || path.starts_with(&format!("{module}::"));
                let fits = |rule: &&&str| path == **rule || path.starts_with(&format!("{rule}::"));
                if !own && allowed.iter().find(fits).is_none() {
                    wrong.push(format!("{}:{}: crate::{path}", file.display(), number));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "against the direction of imports:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn system_calls_stay_in_net() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if ["net", "main"].contains(&module_of(&file).as_str()) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if let Some(call) = SYSTEM.iter().find(|call| line.contains(**call)) {
                wrong.push(format!("{}:{}: {call}", file.display(), number));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "system calls outside net:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_brokers_and_options_depend_on_features() {
    for (file, text) in sources() {
        if ["broker", "config"].contains(&module_of(&file).as_str()) {
            continue;
        }
        let line = code_lines(&text).find(|(_, line)| line.contains("feature = "));
        let number = line.map(|(number, _)| number);
        assert_eq!(number, None, "{} asks for a feature", file.display());
    }
}

#[test]
fn files_say_what_they_own_and_can_be_read_in_one_sitting() {
    for (file, text) in sources() {
        let begins = text.starts_with("//!") || text.starts_with("#![doc");
        assert!(begins, "{} does not say what it owns", file.display());
        let lines = without_tests(&text).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines before its tests",
            file.display()
        );
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source is there") {
            let path = entry.expect("the source can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("tests.rs") {
                // It is a module of tests as a whole.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the source can be read");
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 10, "the source was not found");
    files
}

/// The first name below `src`, which is the module at the crate's root that the file belongs to.
fn module_of(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let below = file.strip_prefix(root).expect("the file lies below src");
    let first = below.components().next().expect("the file has a name");
    first
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\n").next().unwrap_or_default()
}

/// The lines of a file that are neither tests nor comments, with their numbers from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(without_tests(text).lines());
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The paths behind each `crate::` of a line, one for each name in braces.
fn paths_in(line: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let path = |text: &str| -> String {
            let end = text.find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
            text[..end.unwrap_or(text.len())].to_owned()
        };
        let stem = path(rest);
        match rest[stem.len()..].strip_prefix('{') {
            Some(names) => {
                let names = names.split('}').next().unwrap_or_default().split(',');
                paths.extend(names.map(|name| match path(name.trim()).as_str() {
                    "self" => stem.trim_end_matches(':').to_owned(),
                    name => format!("{stem}{name}"),
                }));
            }
            None => paths.push(stem),
        }
    }
    paths
}
