//! Options of the command line. It owns their names and defaults.

use std::time::Duration;

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these workloads, by name or by its first word.
    pub only: Vec<String>,
    /// Only these servers, by name.
    pub servers: Vec<String>,
    /// How often each measurement is repeated; the median counts.
    pub rounds: usize,
    /// How often those of peers are.
    pub peer_rounds: usize,
    /// How long each is.
    pub window: Duration,
    /// How long clients stall.
    pub stall: Duration,
    /// The core of the server under test, and that of everything else.
    pub cores: (usize, usize),
    /// Show what there is, and run nothing.
    pub list: bool,
    /// Say what options there are, and run nothing.
    pub help: bool,
}

/// What `--help` says.
pub const HELP: &str = "\
Measures this server, a floor and its peers; the report goes to standard output and to
target/bench/report.md and report.json.

Usage: cargo bench --bench streams -- [OPTIONS]

  --only NAME,...      only these workloads; eps means all of eps-...
  --servers NAME,...   only these servers
  --rounds NUMBER      repeat each measurement, and take the median (3)
  --peer-rounds NUMBER the same for peers (1)
  --seconds NUMBER     length of a measurement (3)
  --stall NUMBER       seconds that stalling clients do not read (8, at most 60)
  --cores A,B          the core of the server under test, and that of everything else (0,1)
  --quick              one round of 2 seconds
  --list               show workloads and servers, and run nothing
";

impl Default for Options {
    fn default() -> Options {
        Options {
            only: Vec::new(),
            servers: Vec::new(),
            rounds: 3,
            peer_rounds: 1,
            window: Duration::from_secs(3),
            stall: Duration::from_secs(8),
            cores: (0, 1),
            list: false,
            help: false,
        }
    }
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// A line that says what is wrong.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value: see --help"))
            };
            match argument.as_str() {
                // What cargo itself adds.
                "--bench" => {}
                "--only" => options.only = list(&value()?),
                "--servers" => options.servers = list(&value()?),
                "--rounds" => options.rounds = number(&value()?, 1, 99)?,
                "--peer-rounds" => options.peer_rounds = number(&value()?, 1, 99)?,
                "--seconds" => options.window = Duration::from_secs(number(&value()?, 1, 30)?),
                "--stall" => options.stall = Duration::from_secs(number(&value()?, 1, 60)?),
                "--cores" => {
                    let value = value()?;
                    let (server, others) = value
                        .split_once(',')
                        .ok_or("--cores needs two numbers, such as 0,1")?;
                    options.cores = (number(server, 0, 1023)?, number(others, 0, 1023)?);
                }
                "--quick" => {
                    options.rounds = 1;
                    options.window = Duration::from_secs(2);
                }
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                _ => return Err(format!("{argument} is no option: see --help")),
            }
        }
        Ok(options)
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

fn number<T>(value: &str, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.parse().ok();
    let number = number.filter(|number| (&min..=&max).contains(&number));
    number.ok_or_else(|| format!("{value} is not a number from {min} to {max}"))
}
