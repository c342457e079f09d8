"""The client libraries: how each one's driver is started, and what it covers.

A driver takes `--at NAME=ADDRESS` (the listeners and other servers), then names of cases, and prints one JSON line for
each: `case`, `ok`, `seconds`, `detail`. With `--list` it prints the names of its cases, with `--versions` the versions
of what it is made of as JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

from suite import install
from suite.servers import ROOT

BROKER_AREAS = ["records", "transactions", "groups", "group-admin", "topics", "cluster", "security"]


@dataclass
class Client:
    name: str
    command: list
    areas: list = field(default_factory=lambda: list(BROKER_AREAS))
    environment: dict = field(default_factory=dict)

    def ask(self, option):
        variables = os.environ | self.environment
        done = subprocess.run([*self.command, option], stdout=subprocess.PIPE, text=True, env=variables, check=False)
        if done.returncode != 0:
            sys.exit(f"the driver of {self.name} ended with {done.returncode} at {option}")
        return done.stdout

    def cases(self):
        return self.ask("--list").split()

    def versions(self):
        return json.loads(self.ask("--versions"))

    def start(self, at, cases):
        """A process that runs cases; its lines are to be read from its standard output."""
        addresses = [word for name, address in at.items() for word in ("--at", f"{name}={address}")]
        command = [*self.command, *addresses, *cases]
        variables = os.environ | self.environment
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)


def python_client(name, module, areas=None):
    program = install.HERE / "python/drive.py"
    return Client(name, [install.python(), program, module], areas or list(BROKER_AREAS))


def kcat():
    root = install.kcat()
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    environment = {"KCAT": str(root / "usr/bin/kcat"), "LD_LIBRARY_PATH": str(libraries)}
    return Client("kcat", [sys.executable, install.HERE / "python/kcat.py"], environment=environment)


def java(name, main, areas=None):
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", install.java_classes(), main]
    command.insert(1, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
    return Client(name, command, areas or list(BROKER_AREAS))


def rust():
    """The driver is a test target of the broker's crate; cargo says where it put the program."""
    target = ["--package", "streamward-broker", "--features", "conformance", "--test", "conformance"]
    command = ["cargo", "test", "--locked", "--no-run", "--message-format", "json", *target]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("the driver of rdkafka does not build")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    program = next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "conformance")
    return Client("rdkafka", [program])


MAKERS = {
    "confluent-kafka": lambda: python_client("confluent-kafka", "confluent", [*BROKER_AREAS, "registry"]),
    "aiokafka": lambda: python_client("aiokafka", "aio"),
    "kafka-python": lambda: python_client("kafka-python", "kafkapython"),
    "kcat": kcat,
    "kafka-clients": lambda: java("kafka-clients", "Drive"),
    "rdkafka": rust,
    "kafka-streams": lambda: java("kafka-streams", "Streams", ["streams"]),
    "kafka-connect": lambda: Client("kafka-connect", [sys.executable, install.HERE / "python/connect.py"], ["connect"]),
}
