"""The brokers and registries that are driven: Streamward from a binary, the real ones from `shared/servers`."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("STREAMWARD_SHARED", ROOT.parent / "shared"))
PATIENCE = 60.0


def pinned(name):
    """The version of a server that its script in `shared` starts."""
    text = (SHARED / "servers" / name).read_text()
    return re.search(r"^VERSION=\$\{\w+:-([^}]+)\}", text, re.MULTILINE)[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Streamward:
    """One process of Streamward with everything on free ports and a folder of its own."""

    def __init__(self, binary, settings=(), config=None):
        self.folder = Path(tempfile.mkdtemp(prefix="streamward-conformance."))
        ready = self.folder / "ready.json"
        listens = ["kafka.embedded.listen", "registry.embedded.listen", "http.listen"]
        every = [f"{key}=127.0.0.1:0" for key in listens] + list(settings)
        command = [binary, "run", "--no-simulators", "--data-dir", self.folder / "data", "--ready-file", ready]
        command += ["--config", config] if config else []
        for setting in every:
            command += ["--set", setting]
        self.log = self.folder / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.log.read_text()
                self.stop()
                sys.exit(f"{binary} did not become ready:\n{text[-3000:]}")
            time.sleep(0.05)
        self.addresses = json.loads(ready.read_text())

    @property
    def broker(self):
        return self.addresses["kafka"]

    @property
    def registry(self):
        return f"http://{self.addresses['registry']}"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Shared:
    """A server that a script in `shared/servers` starts and stops; its id keeps it apart from others."""

    def __init__(self, name, number, options=(), port=None):
        self.script, self.id = SHARED / "servers" / name, str(number)
        self.port = str(port or free_port())
        self.options = list(options)
        self.start("--fresh")

    def start(self, *more):
        command = [self.script, "up", "--port", self.port, "--id", self.id, *more, *self.options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0 or "=" not in done.stdout:
            sys.exit(f"{self.script.name} did not start (exit {done.returncode})")
        self.address = done.stdout.strip().split("=")[1]

    def stop_gently(self):
        """Ends the server as an operator would, and keeps its data."""
        subprocess.run([self.script, "down", "--id", self.id], check=True)

    def stop(self):
        subprocess.run([self.script, "down", "--id", self.id, "--kill"], check=False)
        data = os.environ.get("STREAMWARD_SERVERS", Path.home() / ".cache/streamward-servers")
        shutil.rmtree(Path(data) / "data" / f"{self.script.name}-{self.id}", ignore_errors=True)


# Kafka looks after its logs and transactions so seldom by default that cases would wait for minutes.
BRISK = [
    "log.cleaner.backoff.ms=200",
    "log.retention.check.interval.ms=300",
    "log.initial.task.delay.ms=300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms=300",
    "transaction.remove.expired.transaction.cleanup.interval.ms=3600000",
]


def options(settings):
    return [word for setting in settings for word in ("--set", setting)]


def apache_kafka(settings=(), port=None):
    return Shared("kafka", os.getpid(), options([*BRISK, *settings]), port)


def apicurio():
    return Shared("registry", os.getpid())


def connect(broker, number):
    return Shared("connect", number, ["--kafka", broker])
