#!/usr/bin/env python3
"""Starts Carbon, the daemon of Graphite, lets two of our processes report to it, one over TCP and one over
UDP, and compares what it has stored with the streams that were there, also after Carbon was away. What they
say of that is one line for each change.

Reports come every ten seconds, so this takes about a minute.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import time

from programs import Failure, Program, Streamer, main, until

# Two intervals, and the longest pause before a connection is tried again.
REPORT_SECONDS = 40

# Every second has a place of its own, so that points are found as they were sent.
SCHEMAS = """
[all]
pattern = .*
retentions = 1s:1h
"""

CONFIGURATION = """
[cache]
STORAGE_DIR = {folder}
CONF_DIR = {folder}
LOG_DIR = {folder}
PID_DIR = {folder}
LOCAL_DATA_DIR = {folder}/whisper
USER =
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {port}
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = 0
MAX_CREATES_PER_MINUTE = inf
MAX_UPDATES_PER_SECOND = 100000
WHISPER_FALLOCATE_CREATE = False
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
LOG_UPDATES = False
LOG_CREATES = False
"""

# Names that the old server had; whoever has a dashboard has them in it.
OLD_NAMES = ["stream.raw.clients", "stream.eps.clients", "stream.detail.clients"]

NEW_NAMES = [
    "stream.kiosk.clients",
    "stream.several.clients",
    "connections.open",
    "connections.accepted",
    "connections.closed.client",
    "subscriptions",
    "shed",
    "replays.served",
    "messages.in",
    "messages.dropped.encoding",
    "frames",
    "events.out",
    "bytes.out",
    "ticks.count",
    "ticks.late_ms_p99",
    "delivery.eps.ms_p50",
    "log.bytes",
    "memory.bytes",
    "cpu.ms",
    "descriptors",
    "source.up",
    "source.losses",
]

# Sent as totals: each point is at least the one before it.
TOTALS = ["connections.accepted", "subscriptions", "messages.in", "events.out", "bytes.out"]


def free_port():
    """A port that is free for TCP and for UDP, and a socket that holds on to it while Carbon, which sets
    the same option, is away. Without it somebody else may be given the port."""
    while True:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            try:
                datagrams.bind(("127.0.0.1", port))
                return port, held
            except OSError:
                held.close()


class Carbon:
    """The daemon, in the foreground, with everything it writes below one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.port, self.held = free_port()
        text = CONFIGURATION.format(folder=folder, port=self.port)
        for name, content in [("carbon.conf", text), ("storage-schemas.conf", SCHEMAS)]:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(content)
        self.start()

    def start(self):
        options = [f"--config={self.folder}/carbon.conf", f"--pidfile={self.folder}/carbon.pid"]
        self.program = Program(["carbon-cache", "--nodaemon", *options, "start"])
        until("Carbon takes connections", self.is_listening)

    def is_listening(self):
        if self.program.process.poll() is not None:
            raise Failure("Carbon did not start")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        refused = [line for line in self.program.lines if "invalid line" in line]
        self.program.stop()
        if refused:
            raise Failure(f"Carbon refused lines: {refused[:3]}")

    def file(self, path):
        return os.path.join(self.folder, "whisper", *path.split(".")) + ".wsp"

    def points(self, path, since=0):
        """What is stored under a path: the values, by Unix time."""
        if not os.path.exists(self.file(path)):
            return {}
        # The program leaves out what is later than its own start.
        until_ = int(time.time()) + 1
        command = ["whisper-fetch", "--json", f"--from={int(time.time()) - 3000}", f"--until={until_}"]
        done = subprocess.run([*command, self.file(path)], capture_output=True, text=True)
        # A file that is being created is not whole yet.
        if done.returncode != 0:
            return {}
        stored = json.loads(done.stdout)
        times = range(stored["start"], stored["end"], stored["step"])
        points = zip(times, stored["values"], strict=True)
        return {at: value for at, value in points if value is not None and at >= since}


class Reporter:
    """One of our processes, the streams it has, and what Carbon should know of them."""

    def __init__(self, carbon, scheme, dyno, streams):
        self.carbon = carbon
        self.root = f"test.{dyno}"
        self.title = f"{scheme} as {self.root}"
        self.target = f"{scheme}://127.0.0.1:{carbon.port}"
        environment = {
            "GRAPHITE_URL": self.target,
            "GRAPHITE_PREFIX": "test",
            "DYNO": dyno,
            "CHANNELS": "room.*,news",
        }
        self.streamer = Streamer(environment)
        invented = [f"room.{name}" for name in range(60)]
        self.channels = [
            self.streamer.subscribe(f"/?channels={','.join(names)}")
            for names in [invented[:30], invented[30:], ["news"]]
        ]
        self.streams = {
            name: [self.streamer.subscribe(path) for _ in range(count)]
            for name, (path, count) in streams.items()
        }

    def points(self, name, since=0):
        return self.carbon.points(f"{self.root}.{name}", since)

    def wait_for_counts(self, since):
        """Waits for a report later than that, in which all counts are those of the streams that are there."""

        def are_there():
            points = {name: self.points(f"stream.{name}.clients", since) for name in self.streams}
            counts = {name: len(streams) for name, streams in self.streams.items()}
            times = set.intersection(*(set(of_name) for of_name in points.values()))
            return any(
                all(points[name][at] == count for name, count in counts.items()) for at in times
            )

        try:
            until(f"a report of {self.title} that is later than {since}", are_there, REPORT_SECONDS)
        except Failure as failure:
            stored = {name: self.points(f"stream.{name}.clients") for name in self.streams}
            raise Failure(f"{failure} and has the counts of all streams; stored are {stored}") from None

    def check_names(self):
        names = OLD_NAMES + NEW_NAMES
        missing = [name for name in names if not self.points(name)]
        if missing:
            raise Failure(f"{self.title} does not report {missing}")
        for name in TOTALS:
            values = list(self.points(name).values())
            if values != sorted(values):
                raise Failure(f"{self.title}: {name} went down: {values}")
        at = max(self.points("source.up"))
        if abs(time.time() - at) > REPORT_SECONDS:
            raise Failure(f"{self.title}: the time {at} is not now")
        if self.points("source.up")[at] != 1:
            raise Failure(f"{self.title}: the source is reported as down")
        # Clients choose the names of channels, but not those of files.
        folder = os.path.join(self.carbon.folder, "whisper", *f"{self.root}.channels".split("."))
        if sorted(os.listdir(folder)) != ["news", "open.wsp", "room__"]:
            raise Failure(f"{self.title}: channels are stored as {os.listdir(folder)}")
        if 60 not in self.points("channels.room__.clients").values():
            raise Failure(f"{self.title}: the channels that match a pattern are not added up")

    def check_log(self):
        """The log has one outage of Carbon."""
        said = [line.split("graphite: ")[1] for line in self.streamer.lines if "graphite: " in line]
        target = re.escape(self.target)
        patterns = [
            f"sending to {target}",
            f"{target}: .*; dropping metrics until it is back",
            f"{target} is back after [0-9]+ s",
        ]
        if len(said) != len(patterns) or not all(map(re.fullmatch, patterns, said)):
            raise Failure(f"{self.title} said {said}")

    def stop(self):
        if self.streamer.stop() != 0:
            raise Failure(f"{self.title} did not end cleanly")


def check():
    with tempfile.TemporaryDirectory() as folder:
        carbon = Carbon(folder)
        began = int(time.time())
        paths = {"raw": "/subscribe/raw", "eps": "/subscribe/eps", "detail": "/subscribe/details/1F602"}

        def streams(*counts):
            return {name: (path, count) for (name, path), count in zip(paths.items(), counts)}

        over_tcp = Reporter(carbon, "tcp", "web.1", streams(2, 3, 1))
        over_udp = Reporter(carbon, "udp", "web.2", streams(1, 5, 2))
        reporters = [over_tcp, over_udp]
        for reporter in reporters:
            reporter.wait_for_counts(began)
        print(f"Carbon on port {carbon.port} has the counts of both, stored in the files of the old names")
        for reporter in reporters:
            reporter.streamer.wrote("graphite: sending to")
        carbon.stop()
        for reporter in reporters:
            reporter.streams["eps"].pop().close()
        # Long enough for two failed reports, of which only the first is logged. UDP notices the outage only then.
        time.sleep(21)
        carbon.start()
        restarted = int(time.time())
        for reporter in reporters:
            reporter.wait_for_counts(restarted)
            reporter.check_names()
            reporter.streamer.wrote("graphite: .* is back after")
            reporter.check_log()
        print(f"Carbon was away, and had the new counts {int(time.time()) - restarted} s after its return")
        for reporter in reporters:
            reporter.stop()
        carbon.stop()


main(check)
