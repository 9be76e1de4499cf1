//! The report: all figures and goals of one run, as Markdown and as JSON.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::figures::Figures;
use crate::goals::{self, Goal};
use crate::servers::Server;
use crate::workloads::{Column, Workload};

/// What was measured in one run.
pub struct Report {
    facts: Vec<(&'static str, String)>,
    notes: Vec<String>,
    tables: Vec<Table>,
}

/// The figures of one workload.
struct Table {
    name: &'static str,
    about: String,
    columns: &'static [Column],
    rows: Vec<Row>,
}

/// Figures above which others mean less, and what to say then.
const DOUBTS: [(&str, f64, &str); 2] = [
    (
        "loader_core",
        0.9,
        "the loader had no time left, so rates and latencies are its own",
    ),
    (
        "others_on_core",
        0.1,
        "others were at work on the server's core",
    ),
];

struct Row {
    server: Server,
    median: Figures,
    rounds: Vec<Figures>,
}

impl Report {
    /// A report of a run on this machine.
    pub fn new(facts: Vec<(&'static str, String)>) -> Report {
        Report {
            facts,
            notes: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Adds something that a reader must know.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Adds what a workload gave.
    pub fn add(&mut self, workload: &Workload, results: Vec<(Server, Vec<Figures>)>) {
        let rows = results.into_iter().map(|(server, rounds)| Row {
            server,
            median: Figures::median(&rounds),
            rounds,
        });
        self.tables.push(Table {
            name: workload.name,
            about: workload.about.clone(),
            columns: workload.columns,
            rows: rows.collect(),
        });
    }

    /// Adds how long the run was.
    pub fn finish(&mut self, span: Duration) {
        self.facts.push(("run", format!("{} s", span.as_secs())));
    }

    /// The median of a figure, where it was measured.
    pub fn get(&self, workload: &str, server: Server, name: &str) -> Option<f64> {
        self.row(workload, server)?.median.get(name)
    }

    /// What must be said of the figures, and of which.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for (name, bound, meaning) in DOUBTS {
            let mut places = Vec::new();
            for table in &self.tables {
                let is_doubtful =
                    |row: &&Row| row.median.get(name).is_some_and(|share| share > bound);
                let servers = table.rows.iter().filter(is_doubtful);
                let servers: Vec<&str> = servers.map(|row| row.server.name()).collect();
                if !servers.is_empty() {
                    places.push(format!("{} ({})", table.name, servers.join(", ")));
                }
            }
            if !places.is_empty() {
                doubts.push(format!("{meaning}: {}", places.join("; ")));
            }
        }
        doubts
    }

    /// Whether a server was measured at all.
    fn has(&self, server: Server) -> bool {
        self.wrong(server).is_some()
    }

    /// How many things were wrong with a server's deliveries, where it was measured at all.
    pub fn wrong(&self, server: Server) -> Option<usize> {
        let rows = self.tables.iter().flat_map(|table| &table.rows);
        let rows: Vec<&Row> = rows.filter(|row| row.server == server).collect();
        let wrong = rows.iter().map(|row| row.median.wrong.len());
        (!rows.is_empty()).then(|| wrong.sum())
    }

    /// Whether nothing was wrong with what a server delivered.
    pub fn is_whole(&self, workload: &str, server: Server) -> bool {
        let row = self.row(workload, server);
        row.is_some_and(|row| row.median.wrong.is_empty())
    }

    fn row(&self, workload: &str, server: Server) -> Option<&Row> {
        let table = self.tables.iter().find(|table| table.name == workload)?;
        table.rows.iter().find(|row| row.server == server)
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# What a delivered event costs\n\n");
        for (name, value) in &self.facts {
            let _infallible = writeln!(text, "- {name}: {value}");
        }
        for note in self.notes.iter().chain(&self.doubts()) {
            let _infallible = writeln!(text, "- {note}");
        }
        text += "\nServers:\n\n";
        for server in Server::ALL {
            if self.has(server) {
                let _infallible = writeln!(text, "- {}: {}", server.name(), server.about());
            }
        }
        text += &goals_markdown(&goals::all(self));
        for table in &self.tables {
            let _infallible = write!(text, "\n## {}\n\n{}.\n\n", table.name, table.about);
            text += &table.markdown();
        }
        text
    }

    /// Writes both forms into this folder.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::write(folder.join("report.md"), self.markdown())?;
        let json = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(folder.join("report.json"), json + "\n")?;
        Ok(())
    }

    fn json(&self) -> Value {
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        let tables = self.tables.iter().map(|table| {
            let rows = table.rows.iter().map(Row::json);
            json!({
                "workload": table.name,
                "about": table.about,
                "servers": rows.collect::<Vec<_>>(),
            })
        });
        let goals = goals::all(self);
        let goals = goals.iter().map(|goal| {
            json!({
                "what": goal.what,
                "bound": goal.bound,
                "measured": goal.measured,
                "met": goal.is_met,
            })
        });
        json!({
            "goals": goals.collect::<Vec<_>>(),
            "machine": facts.collect::<Map<_, _>>(),
            "notes": self.notes.iter().chain(&self.doubts()).collect::<Vec<_>>(),
            "workloads": tables.collect::<Vec<_>>(),
        })
    }
}

impl Table {
    fn markdown(&self) -> String {
        // A column that nobody has a figure for is of no interest.
        let is_filled = |column: &&Column| {
            self.rows
                .iter()
                .any(|row| row.median.get(column.name).is_some())
        };
        let columns: Vec<&Column> = self.columns.iter().filter(is_filled).collect();
        let mut text = String::from("| server |");
        for column in &columns {
            let _infallible = write!(text, " {} |", column.heading);
        }
        text += "\n|---|";
        text += &"--:|".repeat(columns.len());
        for row in &self.rows {
            let _infallible = write!(text, "\n| {} |", row.server.name());
            for column in &columns {
                let _infallible = write!(text, " {} |", shown(column, &row.median));
            }
        }
        text.push('\n');
        let is_wrong = |row: &&Row| !row.median.wrong.is_empty();
        for row in self.rows.iter().filter(is_wrong) {
            let wrong = row.median.wrong.join("; ");
            let _infallible = write!(text, "\n- **{}**: {wrong}", row.server.name());
        }
        if self.rows.iter().any(|row| is_wrong(&row)) {
            text.push('\n');
        }
        text
    }
}

impl Row {
    fn json(&self) -> Value {
        let rounds = self.rounds.iter().map(|round| json!(round.values));
        json!({
            "server": self.server.name(),
            "about": self.server.about(),
            "median": self.median.values,
            "rounds": rounds.collect::<Vec<_>>(),
            "wrong": self.median.wrong,
        })
    }
}

fn goals_markdown(goals: &[Goal]) -> String {
    if goals.is_empty() {
        return String::new();
    }
    let met = goals.iter().filter(|goal| goal.is_met).count();
    let mut text = format!("\n## Goals\n\n{met} of {} are met.\n\n", goals.len());
    text += "| goal | bound | measured | |\n|---|--:|--:|---|\n";
    for goal in goals {
        let Goal {
            what,
            bound,
            measured,
            is_met,
        } = goal;
        let verdict = if *is_met { "pass" } else { "**FAIL**" };
        let _infallible = writeln!(text, "| {what} | {bound} | {measured:.2} | {verdict} |");
    }
    text
}

/// A measurement in one line.
pub fn line(workload: &Workload, figures: &Figures) -> String {
    let figure = |column: &Column| {
        figures.get(column.name)?;
        Some(format!("{} {}", shown(column, figures), column.heading))
    };
    let mut parts: Vec<String> = workload.columns.iter().filter_map(figure).collect();
    parts.extend(figures.wrong.iter().map(|line| format!("WRONG: {line}")));
    parts.join(", ")
}

fn shown(column: &Column, figures: &Figures) -> String {
    match figures.get(column.name) {
        Some(value) => format!("{:.*}", column.digits, value * column.scale),
        None => "—".to_owned(),
    }
}
