"""What the checks of this folder have in common: programs that are started and always stopped, streams that
are read, and waiting for a condition with a deadline."""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

running = set()


@atexit.register
def stop_all():
    """However this process ends, nothing that it started stays behind."""
    for program in list(running):
        program.process.kill()
        program.process.wait()


for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _frame: sys.exit(128 + number))


class Failure(Exception):
    """What was expected and did not come."""


def until(what, condition, seconds=20):
    """Returns the first result of the condition that is true."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Program:
    """A program that was started, with the lines that it wrote."""

    def __init__(self, command, environment=None):
        self.lines = []
        self.title = os.path.basename(command[0])
        # The environment is not handed down: a PORT or a GRAPHITE_URL in it would change what is tested.
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.add(self)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wrote(self, pattern):
        """Waits for a line and returns its match."""

        def match():
            matches = (re.search(pattern, line) for line in list(self.lines))
            found = next((match for match in matches if match), None)
            if not found and self.process.poll() is not None:
                raise Failure(f"{self.title} ended without a line like {pattern}")
            return found

        return until(f"a line like {pattern} of {self.title}", match)

    def stop(self, seconds=30):
        """Ends the program and returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.title} did not end within {seconds} s") from None
        finally:
            self.process.kill()
            self.process.wait()
            running.discard(self)

    def show(self):
        """Prints the last of what it wrote, for whoever looks into a failure."""
        print(f"-- {self.title} wrote:", file=sys.stderr)
        for line in self.lines[-40:]:
            print(f"   {line}", file=sys.stderr)


class Streamer(Program):
    """The program under test, with made-up updates, on a free port."""

    def __init__(self, environment=None):
        command = [os.environ["STREAMER_BINARY"], "--demo", "--listen", "127.0.0.1", "--port", "0"]
        # Whoever listens is sent away at once when the check is over.
        super().__init__([*command, "--drain-sec", "1"], environment)
        self.url, host, port = self.wrote(r"listening on (http://([0-9.]+):(\d+))").groups()
        self.address = (host, int(port))

    def subscribe(self, path):
        return Stream(self.address, path)


class Stream:
    """A stream that is read, and forgotten, until it is closed."""

    def __init__(self, address, path):
        self.socket = socket.create_connection(address, timeout=20)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        self.socket.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.socket.recv(4096)
            if not part:
                raise Failure(f"{path} was closed before it began")
            head += part
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"{path} was answered with {head[:80]!r}")
        self.socket.settimeout(None)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


def main(check):
    """Runs a check and ends the process with its exit code."""
    try:
        check()
    except Failure as failure:
        for program in list(running):
            program.show()
        print(f"{os.path.basename(sys.argv[0])}: {failure}", file=sys.stderr)
        sys.exit(1)
