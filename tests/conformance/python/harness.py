"""Runs cases against one broker and prints one JSON line for each.

A case is a function that takes an `Env` and raises when what it says does not hold. Cases run side by side but for
those in `ALONE`, each in a thread of its own and with names of its own, so none may rely on what else the broker holds.
"""

import argparse
import json
import os
import queue
import random
import re
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from client import Endpoint, Refused

# How long a state may take to come, and a whole case to end, in seconds.
PATIENCE = 30.0
CASE_LIMIT = 120.0

CASES = {}
# Names of cases that change what others rely on: they run one by one, after all others.
ALONE = set()


def case(name, alone=False):
    """Registers a function as the case of this name in `cases.toml`."""

    def register(function):
        assert name not in CASES, f"two cases {name}"
        CASES[name] = function
        if alone:
            ALONE.add(name)
        return function

    return register


@dataclass
class Env:
    """What a case is given: where the servers are, the client's library, names that nobody else uses."""

    at: dict
    library: object
    label: str

    def name(self, suffix=""):
        """A name for a topic, a group or a transactional id."""
        return f"{self.label}-{random.randrange(1 << 40):010x}{suffix}"

    @property
    def plain(self):
        """The listener without encryption or login."""
        return Endpoint(self.at["plain"])

    def producer(self, **settings):
        return self.library.producer(self.plain, dotted(settings))

    def consumer(self, group=None, **settings):
        """A consumer that commits only when told to and begins at the earliest record."""
        wanted = {"enable.auto.commit": False, "auto.offset.reset": "earliest"} | dotted(settings)
        if group:
            wanted["group.id"] = group
        return self.library.consumer(self.plain, wanted)

    def admin(self):
        return self.library.admin(self.plain)

    def topic(self, partitions=1, **configs):
        """Creates a topic and waits until each of its partitions answers, for a broker may list them sooner; its name."""
        name = self.name()
        with self.admin() as admin:
            admin.create_topic(name, partitions, {key: str(value) for key, value in dotted(configs).items()})
            eventually("the topic", lambda: admin.partitions(name) == partitions)
        with self.consumer() as consumer:
            for number in range(partitions):
                at_zero = lambda number=number: consumer.end((name, number)) == 0
                eventually(f"partition {number}", lambda at_zero=at_zero: answers(at_zero))
        return name


def answers(probe):
    """What a probe gives, false while it is refused."""
    try:
        return probe()
    except Refused:
        return False


def dotted(settings):
    """Settings given as Python arguments under Kafka's names: `linger_ms` is `linger.ms`."""
    return {key.replace("_", "."): value for key, value in settings.items()}


class Failed(AssertionError):
    """What should hold does not."""


def equal(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {shorten(got)} instead of {shorten(wanted)}")


def holds(what, condition, detail=""):
    if not condition:
        raise Failed(f"not so: {what} {shorten(detail)}")


def shorten(value):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


def eventually(what, probe, seconds=PATIENCE):
    """Waits until `probe` returns something true, which is returned; its own failures count as not yet."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except Failed as failure:
            last = failure
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come within {seconds:g} s: {shorten(last)}")
        time.sleep(0.05)


def run(name, env):
    """The result of one case as a dictionary."""
    outcome = queue.Queue()

    def work():
        try:
            CASES[name](env)
            outcome.put((True, ""))
        except BaseException as error:  # a case may fail in any way; the line says how
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "/cases/" in f.filename]
            if ours:
                where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            outcome.put((False, f"{where}: {type(error).__name__}: {shorten(str(error))}"))

    begun = time.monotonic()
    threading.Thread(target=work, daemon=True).start()
    try:
        is_ok, detail = outcome.get(timeout=CASE_LIMIT)
    except queue.Empty:
        is_ok, detail = False, f"no end within {CASE_LIMIT:g} s"
    return {"case": name, "ok": is_ok, "seconds": round(time.monotonic() - begun, 2), "detail": detail}


def run_all(names, env_of, jobs):
    """Runs cases `jobs` at a time, printing each result as it comes."""
    waiting = queue.SimpleQueue()
    for name in names:
        waiting.put(name)

    def work():
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            line = json.dumps(run(name, env_of(name)))
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(versions, library=None, at_end=lambda: None, jobs=4):
    """The command line that all drivers in Python share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", action="append", default=[], metavar="NAME=ADDRESS", help="a listener or a server")
    parser.add_argument("--jobs", type=int, default=jobs, help="cases at a time")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--versions", action="store_true", help="print the versions of what is driven")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    if args.list:
        print("\n".join(CASES))
        return
    if args.versions:
        print(json.dumps(versions()))
        return
    at = dict(pair.split("=", 1) for pair in args.at)

    def env_of(name):
        return Env(at, library, re.sub(r"[^a-z0-9]+", "-", name))

    run_all([name for name in args.cases if name not in ALONE], env_of, args.jobs)
    run_all([name for name in args.cases if name in ALONE], env_of, 1)
    at_end()
    sys.stdout.flush()
    os._exit(0)  # a case that never ended may hold a thread of its client
