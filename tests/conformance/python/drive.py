"""Runs cases through one client library: `drive.py LIBRARY --at plain=HOST:PORT CASE…`."""

import importlib
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import harness

REGISTRY = ["registry", "registry_levels", "serdes"]
AREAS = ["records", "missing", "transactions", "groups", "group_admin", "topics", "cluster", "security"]


def main():
    library = importlib.import_module(f"adapters.{sys.argv.pop(1)}")
    # The registry has one client, which comes with confluent-kafka.
    for area in AREAS + (REGISTRY if library.NAME == "confluent-kafka" else []):
        importlib.import_module(f"cases.{area}")
    # What the library cannot express is said in one place for the driver and for the table.
    catalogue = tomllib.loads((HERE.parent / "cases.toml").read_text())
    for name in catalogue["without"][library.NAME]:
        harness.CASES.pop(name, None)
    harness.main(library.versions, library)


main()
