"""The list of cases in `cases.toml`, and the clients that are driven through them."""

import fnmatch
import tomllib
from dataclasses import dataclass

from suite.install import HERE

# Tables of the page, each with its areas.
TABLES = [
    ("Broker", ["records", "transactions", "groups", "group-admin", "topics", "cluster", "security"]),
    ("Kafka Streams", ["streams"]),
    ("Kafka Connect", ["connect"]),
    ("Schema registry", ["registry"]),
]


@dataclass(frozen=True)
class Case:
    name: str
    area: str
    holds: str


class Catalogue:
    """Cases in the order of the file, and what clients cannot express."""

    tables = TABLES

    def __init__(self):
        text = tomllib.loads((HERE / "cases.toml").read_text())
        self.notes = text.pop("notes", {})
        self.without = text.pop("without", {})
        self.by_chance = text.pop("deviations-by-chance", {})
        self.deviations = text.pop("deviations", {}) | self.by_chance
        self.listed = {}
        self.cases = [
            Case(f"{area}/{name}", area, holds) for area, cases in text.items() for name, holds in cases.items()
        ]

    def take(self, client, listed):
        """Remembers which cases a client's driver has; faults against the file, as sentences."""
        self.listed[client.name] = set(listed)
        wanted = {case.name for case in self.cases if case.area in client.areas}
        for name in sorted(wanted - set(listed)):
            if self.note(client.name, name) is None:
                yield f"{client.name} has no case {name}, and no note in cases.toml says why"
        for name in sorted(set(listed) - wanted):
            yield f"{client.name} has a case {name} that is not in cases.toml"
        names = [case.name for case in self.cases]
        for pattern in self.without.get(client.name, {}):
            if not fnmatch.filter(names, pattern):
                yield f"cases.toml says that {client.name} is without {pattern}, and has no such case"
        for name in sorted(set(listed) & set(self.without.get(client.name, {}))):
            yield f"{client.name} has the case {name}, which it cannot have by cases.toml"

    def note(self, client, case):
        """The key of the note that says why a client has no such case; None when it has it."""
        if case in self.listed[client]:
            return None
        patterns = self.without.get(client, {}).items()
        return next((key for pattern, key in patterns if fnmatch.fnmatch(case, pattern)), None)

    def used_notes(self, clients):
        """Keys of all notes that some case of some client refers to, in the order of the file."""
        used = {self.note(c.name, case.name) for c in clients for case in self.cases if case.area in c.areas}
        return [key for key in self.notes if key in used]
