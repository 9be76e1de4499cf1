//! An independent publisher: Python's pika, which publishes one message per input line and reports for each whether it
//! was routed to a queue.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::rabbit::{Rabbit, skip};

const SCRIPT: &str = r"
import json, sys, pika
parameters = pika.ConnectionParameters('127.0.0.1', int(sys.argv[1]), heartbeat=0)
channel = pika.BlockingConnection(parameters).channel()
channel.confirm_delivery()
print('ready', flush=True)
for line in sys.stdin:
    exchange, key, body = json.loads(line)
    try:
        channel.basic_publish(exchange, key, body.encode(), mandatory=True)
        print('routed', flush=True)
    except pika.exceptions.UnroutableError:
        print('unrouted', flush=True)
";

/// A connection to a broker's exchange, which has to be there.
pub struct Publisher {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    exchange: String,
}

/// Whether there is pika. The test that asks has to return where there is none.
#[track_caller]
pub fn is_installed_or_skip() -> bool {
    let is_there = python().is_some();
    if !is_there {
        skip("pika is not installed");
    }
    is_there
}

/// A Python that has it: one that comes first in the PATH may not be the one that packages are installed for.
fn python() -> Option<&'static str> {
    static PYTHON: OnceLock<Option<&str>> = OnceLock::new();
    *PYTHON.get_or_init(|| {
        ["python3", "/usr/bin/python3"].into_iter().find(|python| {
            let output = Command::new(python).args(["-c", "import pika"]).output();
            output.is_ok_and(|output| output.status.success())
        })
    })
}

impl Publisher {
    /// Connects.
    #[track_caller]
    pub fn new(rabbit: &Rabbit, exchange: &str) -> Publisher {
        let mut command = Command::new(python().expect("a Python with pika"));
        command.args(["-c", SCRIPT, &rabbit.address().port().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("to start Python");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        let exchange = exchange.to_owned();
        let mut publisher = Publisher {
            child,
            input,
            output,
            exchange,
        };
        assert_eq!(publisher.answer(), "ready");
        publisher
    }

    /// Publishes; whether there was a queue for it.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, message: &str) -> bool {
        let line = serde_json::json!([self.exchange, channel, message]);
        writeln!(self.input, "{line}").expect("to tell it");
        self.answer() == "routed"
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        let line = self.output.next().expect("an answer");
        line.expect("text")
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}
