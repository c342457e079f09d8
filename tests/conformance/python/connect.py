"""Kafka Connect: a distributed worker with file connectors, driven over its REST interface."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import harness
from harness import case, equal, eventually
from suite import servers

SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
FOLDER = Path(tempfile.gettempdir()) / f"streamward-conformance.{os.getpid()}"
STARTING = threading.Lock()
WORKERS = {}


def versions():
    return {"connect-runtime": servers.pinned("connect")}


def worker(env):
    """The one worker of this run."""
    with STARTING:
        if "connect" not in WORKERS:
            WORKERS["connect"] = servers.connect(env.at["plain"], os.getpid())
        return WORKERS["connect"]


def ask(env, method, path, body=None):
    """The JSON answer; the worker says 409 while it rebalances, and is asked again."""
    data = None if body is None else json.dumps(body).encode()
    url = f"http://{worker(env).address}{path}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)

    def answer():
        try:
            with urllib.request.urlopen(request, timeout=30) as found:
                text = found.read()
                return [json.loads(text) if text else None]
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                return None
            raise

    return eventually(f"an answer to {method} {path}", answer)[0]


def running(env, name, state="RUNNING"):
    """Waits until a connector and its task are in a state."""

    def probe():
        found = ask(env, "GET", f"/connectors/{name}/status")
        tasks = [task["state"] for task in found["tasks"]]
        return (found["connector"]["state"], tasks) == (state, [state])

    eventually(f"{name} {state}", probe)


class Copy:
    """A file that a source copies to a topic, and a sink from there to another file."""

    def __init__(self, env):
        self.env, self.topic = env, env.name()
        self.source, self.sink = f"{self.topic}-source", f"{self.topic}-sink"
        self.file, self.copy = FOLDER / f"{self.topic}.in", FOLDER / f"{self.topic}.out"
        self.lines = []
        FOLDER.mkdir(exist_ok=True)
        self.write(0)
        common = {"tasks.max": "1"}
        source = {"connector.class": SOURCE, "file": str(self.file), "topic": self.topic}
        sink = {"connector.class": SINK, "file": str(self.copy), "topics": self.topic}
        for name, config in ((self.source, source), (self.sink, sink)):
            ask(env, "PUT", f"/connectors/{name}/config", common | config)

    def write(self, count):
        """Appends lines to the source's file."""
        fresh = [f"line {number}" for number in range(len(self.lines), len(self.lines) + count)]
        self.lines += fresh
        with open(self.file, "a") as file:
            file.writelines(f"{line}\n" for line in fresh)

    def copied(self):
        return self.copy.read_text().splitlines() if self.copy.exists() else []

    def check(self):
        """Waits until all lines are copied, and none twice."""
        eventually("all lines", lambda: len(self.copied()) >= len(self.lines))
        equal("lines", self.copied(), self.lines)

    def remove(self):
        for name in (self.source, self.sink):
            ask(self.env, "DELETE", f"/connectors/{name}")


@case("connect/files")
def files(env):
    copy = Copy(env)
    copy.write(500)
    copy.check()
    copy.write(500)
    copy.check()
    equal("listed", {copy.source, copy.sink} <= set(ask(env, "GET", "/connectors")), True)
    copy.remove()
    gone = lambda: not {copy.source, copy.sink} & set(ask(env, "GET", "/connectors"))
    eventually("removed", gone)


@case("connect/pause")
def pause(env):
    copy = Copy(env)
    copy.write(100)
    copy.check()
    ask(env, "PUT", f"/connectors/{copy.sink}/pause")
    running(env, copy.sink, "PAUSED")
    copy.write(100)
    offsets = lambda: ask(env, "GET", f"/connectors/{copy.source}/offsets")["offsets"]
    ends = lambda: [place["offset"]["position"] for place in offsets()]
    eventually("the source goes on", lambda: ends() == [copy.file.stat().st_size])
    equal("lines while paused", len(copy.copied()), 100)
    ask(env, "PUT", f"/connectors/{copy.sink}/resume")
    copy.check()


@case("connect/restart")
def restart(env):
    copy = Copy(env)
    copy.write(100)
    copy.check()
    for name in (copy.source, copy.sink):
        ask(env, "POST", f"/connectors/{name}/restart?includeTasks=true")
        running(env, name)
    copy.write(100)
    copy.check()
    # The worker knows its connectors, offsets and statuses from compacted topics alone.
    worker(env).stop_gently()
    copy.write(100)
    worker(env).start()
    for name in (copy.source, copy.sink):
        running(env, name)
    copy.check()


def clean_up():
    for server in WORKERS.values():
        server.stop()
    shutil.rmtree(FOLDER, ignore_errors=True)


def terminated(*_):
    clean_up()
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    harness.main(versions, at_end=clean_up, jobs=1)
