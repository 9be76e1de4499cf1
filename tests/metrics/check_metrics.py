#!/usr/bin/env python3
"""Fetches a document of Prometheus metrics and says what is wrong with it, one line for each fault.

It knows the text format 0.0.4 and the conventions for names, and is stricter than parsers are: what they
let pass, such as a family that is interrupted by another, is a fault here. The official Python parser and,
where it is on the PATH, promtool must agree.

Exit code: 0 without faults, 1 with some, 2 for wrong use.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OWN = "emojitrack_streamer_"

# Every label, and the values it may have. A label with a value that a client chose would be a new time
# series for each client.
LABELS = {
    "stream": r"raw|eps|details|kiosk_interaction|channels|several",
    "reason": "client|reset|timeout|slow|idle|answered|protocol|lifetime|cleanup|shed|crowded|drain|failure",
    "cause": r"encoding|channel|oversized|unknown|relay",
    "source": r"redis|demo|embedded|amqp",
    "result": r"served|refused",
    "version": r"\d+\.\d+\.\d+",
    "le": r"\d+(\.\d{1,6})?|\+Inf",
}

# Families that dashboards and alerts are made of, with their types.
REQUIRED = {
    OWN + "build_info": "gauge",
    OWN + "source_up": "gauge",
    OWN + "source_losses_total": "counter",
    OWN + "sockets_open": "gauge",
    OWN + "subscribers": "gauge",
    OWN + "connections_accepted_total": "counter",
    OWN + "connections_closed_total": "counter",
    OWN + "subscriptions_total": "counter",
    OWN + "subscriptions_shed_total": "counter",
    OWN + "replays_total": "counter",
    OWN + "messages_received_total": "counter",
    OWN + "messages_dropped_total": "counter",
    OWN + "frames_total": "counter",
    OWN + "events_sent_total": "counter",
    OWN + "bytes_sent_total": "counter",
    OWN + "conflations_total": "counter",
    OWN + "ticks_total": "counter",
    OWN + "log_bytes": "gauge",
    OWN + "log_max_bytes": "gauge",
    OWN + "log_frames": "gauge",
    OWN + "tick_lateness_seconds": "histogram",
    OWN + "delivery_seconds": "histogram",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_start_time_seconds": "gauge",
}

SUFFIXES = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}

# Units that have a base unit which should have been used, and words that say what TYPE says already.
WRONG_WORDS = re.compile(
    r"_(ms|us|ns|milliseconds|microseconds|nanoseconds|minutes|hours|kb|kib|mb|mib|kilobytes|kibibytes"
    r"|megabytes|mebibytes|bits|percent|counter|gauge|histogram)(_|$)"
)

NAME = r"[a-z_][a-z0-9_]*"
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
SAMPLE = re.compile(rf"({NAME})(?:\{{(.+)\}})? (\S+)")
LABEL = re.compile(rf'({NAME})="((?:[^"\\]|\\["\\n])*)"(,(?=.)|$)')
NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass
class Family:
    name: str
    help: str | None = None
    type: str | None = None
    # Each sample: its suffix, its labels as pairs, and its value as it was written.
    samples: list = field(default_factory=list)


class Document:
    """The families of a document, in their order, and its faults."""

    def __init__(self, text):
        self.faults = []
        self.where = None
        self.families = {}
        self.series = {}
        self.current = None
        if not text.endswith("\n"):
            self.fault("the document does not end with a line end")
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            self.where = f"line {number}: {line}"
            if line.startswith("#"):
                self.comment(line)
            else:
                self.sample(line)
        self.where = None
        for family in self.families.values():
            self.check(family)
        for name, type_ in REQUIRED.items():
            if name not in self.families:
                self.fault(f"there is no family {name}")
            elif self.families[name].type != type_:
                self.fault(f"{name} is a {self.families[name].type}, not a {type_}")

    def fault(self, words):
        self.faults.append(f"{words} ({self.where})" if self.where else words)

    def comment(self, line):
        match = COMMENT.fullmatch(line)
        if not match:
            return self.fault("neither HELP nor TYPE")
        word, name, rest = match.groups()
        family = self.current
        if family is None or family.name != name:
            family = self.begin(name)
        if family.samples:
            self.fault(f"{word} behind samples")
        if word == "HELP":
            if family.help is not None:
                self.fault("a second HELP")
            if family.type is not None:
                self.fault("HELP behind TYPE")
            if re.search(r"\\(?![\\n])", rest):
                self.fault("a wrong escape")
            family.help = rest
        else:
            if family.type is not None:
                self.fault("a second TYPE")
            if rest not in SUFFIXES:
                self.fault("an unknown type")
            family.type = rest

    def begin(self, name):
        if name in self.families:
            self.fault("a family that was left comes back, or one more has its name")
        self.current = Family(name)
        self.families.setdefault(name, self.current)
        return self.current

    def sample(self, line):
        match = SAMPLE.fullmatch(line)
        if not match:
            return self.fault("not a sample")
        name, labels, value = match.groups()
        family = self.current
        suffixes = SUFFIXES.get(family.type, [""]) if family else []
        suffix = next((suffix for suffix in suffixes if name == family.name + suffix), None)
        if suffix is None:
            return self.fault("a sample outside its family")
        labels = self.labels(labels or "")
        series = name + json.dumps(sorted(labels))
        if series in self.series:
            self.fault("a second sample of one series")
        self.series[series] = (family.type, value)
        if not NUMBER.fullmatch(value):
            self.fault("a value that is not a plain number")
        elif "." in value and not re.search(r"_seconds(_total)?(_sum)?$", name):
            self.fault("a fraction of what is counted in whole")
        elif re.search(r"\.\d*0$|\.\d{7,}", value):
            self.fault("digits that say nothing")
        if ("le" in dict(labels)) != (suffix == "_bucket"):
            self.fault("le belongs to buckets, and to nothing else")
        family.samples.append((suffix, labels, value))

    def labels(self, text):
        labels = []
        while text:
            match = LABEL.match(text)
            if not match:
                self.fault("labels that cannot be read")
                break
            label, value, _ = match.groups()
            if label in dict(labels):
                self.fault(f"the label {label} twice")
            if label not in LABELS:
                self.fault(f"the label {label}, which is not allowed")
            elif not re.fullmatch(LABELS[label], value):
                self.fault(f"the label {label} with a value of no fixed set")
            labels.append((label, value))
            text = text[match.end():]
        return labels

    def check(self, family):
        """What can be said of a whole family only."""
        name = family.name
        if family.help is None or family.type is None:
            self.fault(f"{name} has no HELP, or no TYPE")
        if not family.samples:
            self.fault(f"{name} has no samples")
        if not name.startswith((OWN, "process_")):
            self.fault(f"{name} has another prefix than {OWN} and process_")
        if name.endswith("_total") != (family.type == "counter"):
            self.fault(f"{name} is a {family.type}; counters, and nothing else, end in _total")
        if WRONG_WORDS.search(name):
            self.fault(f"{name} is not in base units, or repeats its type")
        if re.search(r"_(bucket|sum|count)$", name):
            self.fault(f"{name} looks like a part of a histogram")
        if name.startswith("process_") and name not in REQUIRED:
            self.fault(f"{name} is none of the metrics that all processes have")
        without_le = [[label for label, _ in labels if label != "le"] for _, labels, _ in family.samples]
        if any(labels != without_le[0] for labels in without_le):
            self.fault(f"{name} has samples with different labels")
        if family.type == "histogram":
            self.histograms(family)

    def histograms(self, family):
        groups = {}
        for suffix, labels, value in family.samples:
            own = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(own, []).append((suffix, dict(labels).get("le"), value))
        all_bounds = set()
        for own, samples in groups.items():
            title = f"{family.name}{dict(own) or ''}"
            suffixes = [suffix for suffix, _, _ in samples]
            buckets = [(le, int(value)) for _, le, value in samples if le and value.isdigit()]
            if suffixes != ["_bucket"] * (len(suffixes) - 2) + ["_sum", "_count"] or not buckets:
                self.fault(f"{title} is not made of buckets, a sum and a count")
                continue
            try:
                bounds = [math.inf if le == "+Inf" else float(le) for le, _ in buckets]
                total, seconds = int(samples[-1][2]), float(samples[-2][2])
            except ValueError:
                self.fault(f"{title} has a bound, a sum or a count that is not a number")
                continue
            counts = [count for _, count in buckets]
            if bounds != sorted(set(bounds)):
                self.fault(f"{title} has bounds that do not rise")
            if bounds[-1] != math.inf:
                self.fault(f"{title} does not end with +Inf")
            if counts != sorted(counts):
                self.fault(f"{title} has buckets that are not cumulative")
            if counts[-1] != total:
                self.fault(f"{title} counts {total}, and its last bucket {counts[-1]}")
            if total == 0 and seconds > 0:
                self.fault(f"{title} has a sum of nothing")
            # Each duration is longer than the bound of the bucket before its own.
            steps = zip(bounds, counts, counts[1:])
            if seconds < 0.999999 * sum(low * (count - before) for low, before, count in steps):
                self.fault(f"{title} has a sum below what its buckets make at least")
            all_bounds.add(tuple(bounds))
        if len(all_bounds) > 1:
            self.fault(f"{family.name} has different bounds for different labels")


def faults_of_response(response, body):
    faults = []
    if response.status != 200:
        faults.append(f"status {response.status}")
    if response.headers.get_all("Content-Type") != [CONTENT_TYPE]:
        faults.append(f"Content-Type {response.headers.get_all('Content-Type')}")
    if b"\r" in body:
        faults.append("carriage returns")
    return faults


def faults_of_parser(text, document):
    """Compares what the official parser reads with what was read here."""
    try:
        parsed = {family.name: family for family in text_string_to_metric_families(text)}
    except ValueError as error:
        return [f"prometheus_client cannot read it: {error}"]
    faults = []
    # The parser takes _total off the names of counters.
    own = {name.removesuffix("_total"): family for name, family in document.families.items()}
    if parsed.keys() != own.keys():
        faults.append(f"prometheus_client sees other families: {sorted(parsed.keys() ^ own.keys())}")
    for name in parsed.keys() & own.keys():
        theirs = [(s.name, s.labels, float(s.value)) for s in parsed[name].samples]
        mine = [
            (own[name].name + suffix, dict(labels), float(value))
            for suffix, labels, value in own[name].samples
        ]
        if parsed[name].type != own[name].type or theirs != mine:
            faults.append(f"prometheus_client reads {name} differently")
    return faults


def faults_of_promtool(body):
    if not shutil.which("promtool"):
        return []
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True)
    lines = (done.stdout + done.stderr).decode().splitlines()
    if done.returncode != 0 and not lines:
        lines = [f"exit code {done.returncode}"]
    return [f"promtool: {line}" for line in lines]


def faults_since(earlier, series):
    faults = []
    for name in earlier.keys() - series.keys():
        faults.append(f"{name} was there before and is missing")
    for name in series.keys() & earlier.keys():
        type_, value = series[name]
        # All parts of a histogram are totals, too.
        if type_ != "gauge" and Decimal(value) < Decimal(earlier[name][1]):
            faults.append(f"{name} went down, from {earlier[name][1]} to {value}")
    return faults


def faults_of_rising(names, earlier, series):
    faults = []
    for name in names:
        key = name + "[]"
        if key not in series or key not in earlier:
            faults.append(f"{name} is not there to rise")
        elif Decimal(series[key][1]) <= Decimal(earlier[key][1]):
            faults.append(f"{name} did not rise from {earlier[key][1]}")
    return faults


def faults_of(text, body, expected=()):
    """The faults of one document, and its series."""
    document = Document(text)
    faults = document.faults
    faults += faults_of_parser(text, document)
    faults += faults_of_promtool(body)
    lines = set(text.split("\n"))
    faults += [f"there is no line {line}" for line in expected if line not in lines]
    return faults, document.series


def main():
    parser = argparse.ArgumentParser(description="Says what is wrong with a document of metrics.")
    parser.add_argument("url", help="where the server is; /metrics is added")
    parser.add_argument("--save", metavar="FILE", help="keep the values for a later check")
    parser.add_argument("--earlier", metavar="FILE", help="values that totals must not fall below")
    parser.add_argument("--rising", metavar="NAME", action="append", default=[],
                        help="a counter that must have risen since then")
    parser.add_argument("--expect", metavar="LINE", action="append", default=[],
                        help="a line that must be there")
    options = parser.parse_args()
    if options.rising and not options.earlier:
        parser.error("--rising needs --earlier")
    url = options.url.rstrip("/") + "/metrics"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            body = response.read()
            faults = faults_of_response(response, body)
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    more, series = faults_of(text, body, options.expect)
    faults += more
    if options.earlier:
        with open(options.earlier, encoding="utf-8") as file:
            earlier = json.load(file)
        faults += faults_since(earlier, series)
        faults += faults_of_rising(options.rising, earlier, series)
    if options.save:
        with open(options.save, "w", encoding="utf-8") as file:
            json.dump(series, file)
    for fault in faults:
        print(f"{url}: {fault}", file=sys.stderr)
    tools = "prometheus_client" + (" and promtool" if shutil.which("promtool") else "")
    if not faults:
        print(f"{url}: {len(series)} series without fault, to {tools} as well")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
