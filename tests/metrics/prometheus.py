#!/usr/bin/env python3
"""Starts the program, opens some streams, and has check_metrics.py look at /metrics twice."""

import os
import subprocess
import sys
import tempfile

from programs import Failure, Streamer, main, until

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_metrics.py")

STREAMS = {
    "raw": ["/subscribe/raw"] * 2,
    "eps": ["/subscribe/eps"] * 3,
    "details": ["/subscribe/details/1F602"],
    "kiosk_interaction": [],
}

# With somebody on raw and eps, these rise every second.
RISING = ["messages_received", "frames", "events_sent", "bytes_sent", "ticks"]


def check_metrics(streamer, *options):
    done = subprocess.run([sys.executable, CHECK, streamer.url, *options])
    if done.returncode != 0:
        raise Failure("there are faults")


def check():
    streamer = Streamer()
    streams = [streamer.subscribe(path) for paths in STREAMS.values() for path in paths]
    counts = [
        f'emojitrack_streamer_subscribers{{stream="{name}"}} {len(paths)}'
        for name, paths in STREAMS.items()
    ]
    expected = [
        *counts,
        'emojitrack_streamer_source_up{source="demo"} 1',
        f"emojitrack_streamer_subscriptions_total {len(streams)}",
    ]
    expected = [option for line in expected for option in ("--expect", line)]
    rising = [option for name in RISING for option in ("--rising", f"emojitrack_streamer_{name}_total")]
    with tempfile.TemporaryDirectory() as folder:
        values = os.path.join(folder, "values.json")
        check_metrics(streamer, "--save", values, *expected)
        streams.pop().close()
        gone = 'emojitrack_streamer_subscribers{stream="details"} 0'

        # Two documents that are the same would prove nothing, so the second is one with an end in it.
        def has_gone():
            command = [sys.executable, CHECK, streamer.url, "--expect", gone]
            return subprocess.run(command, capture_output=True).returncode == 0

        until(f"a document with {gone}, and without fault", has_gone)
        check_metrics(streamer, "--earlier", values, "--expect", gone, *rising)
    for stream in streams:
        stream.close()
    if streamer.stop() != 0:
        raise Failure("the program did not end cleanly")


main(check)
