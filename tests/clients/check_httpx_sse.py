#!/usr/bin/env python3
"""Reads streams with httpx-sse, whose users parse the data of each event as JSON: it must hand out every event,
and nothing for a comment or for `retry:`."""

import json
import os
import queue
import threading
import time

import httpx
from httpx_sse import connect_sse
from programs import Failure, Program, main, until

KEY = "sesame"
SCORES = "stream.score_updates"
TWEETS = "stream.tweet_updates.2665"
EPS = "/subscribe/eps"
DETAILS = "/subscribe/details/2665"


class Streamer(Program):
    """The program under test without a broker, to be published to over HTTP."""

    def __init__(self, environment):
        command = [os.environ["STREAMER_BINARY"], "--listen", "127.0.0.1", "--port", "0"]
        fixed = {"REDIS_URL": "none", "CHANNELS": "*", "PUBLISH_KEY": KEY, "DRAIN_SEC": "1"}
        super().__init__(command, {**fixed, **environment})
        self.url = self.wrote(r"listening on (http://[0-9.]+:\d+)").group(1)

    def publish(self, channel, message):
        document = {"key": KEY, "channel": channel, "message": message}
        httpx.post(f"{self.url}/publish", json=document).raise_for_status()


class Reader(threading.Thread):
    """Reads a stream to its end, and keeps what the client hands out."""

    def __init__(self, streamer, path):
        super().__init__(daemon=True)
        self.url = streamer.url + path
        self.is_open = threading.Event()
        self.events = queue.SimpleQueue()
        self.start()

    def run(self):
        with httpx.Client(timeout=20) as client, connect_sse(client, "GET", self.url) as source:
            self.is_open.set()
            for event in source.iter_sse():
                self.events.put((event.event, event.data))

    def expect(self, *events):
        for expected in events:
            try:
                event, data = self.events.get(timeout=10)
                heard = (event, json.loads(data))
            except queue.Empty:
                raise Failure(f"{self.url}: {expected} did not come") from None
            except json.JSONDecodeError:
                raise Failure(f"{self.url}: {(event, data)} instead of {expected}") from None
            if heard != expected:
                raise Failure(f"{self.url}: {heard} instead of {expected}")

    def expect_nothing_more(self):
        if not self.events.empty():
            raise Failure(f"{self.url}: {self.events.get()} came as well")


def check_events(environment):
    """Each event is handed out, and no comment before, between or behind them."""
    streamer = Streamer({"KEEPALIVE_SEC": "1", **environment})
    eps, details = Reader(streamer, EPS), Reader(streamer, DETAILS)
    for reader in (eps, details):
        if not reader.is_open.wait(10):
            raise Failure(f"{reader.url} does not open")
    for number in (1, 2):
        # Longer than it takes until a comment comes.
        time.sleep(1.5)
        streamer.publish(SCORES, "2665")
        streamer.publish(TWEETS, json.dumps({"number": number}))
        eps.expect(("message", {"2665": 1}))
        details.expect((TWEETS, {"number": number}))
    time.sleep(1.5)
    for reader in (eps, details):
        reader.expect_nothing_more()
    stop(streamer)


def check_refusal():
    """A stream for which there is no room says when to come again, and has no event."""
    streamer = Streamer({"MAX_CONNECTIONS": "1"})
    first = Reader(streamer, EPS)
    if not first.is_open.wait(10):
        raise Failure("the first stream does not open")
    second = Reader(streamer, EPS)
    until("the second stream has ended", lambda: not second.is_alive())
    second.expect_nothing_more()
    stop(streamer)


def stop(streamer):
    if streamer.stop() != 0:
        raise Failure("the program did not end cleanly")


def check():
    check_events({})
    check_events({"SSE_RECONNECT_MS": "300"})
    check_refusal()
    print("httpx-sse gets each event, and nothing else")


main(check)
