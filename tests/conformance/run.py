#!/usr/bin/env python3
"""Drives real Kafka clients against Streamward and, as the oracle, against Apache Kafka; see README.md."""

import argparse
import concurrent.futures
import difflib
import fnmatch
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from suite import clients, fleets, servers, table
from suite.catalogue import Catalogue

# Longest time for one driver's cases against one server, and to end when it is told to, in seconds.
DRIVER_LIMIT = 600.0
END_LIMIT = 60.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=servers.ROOT / "target/debug/streamward", help="the server to test")
    parser.add_argument("--oracle", action="store_true", help="also against Apache Kafka; needs the folder `shared`")
    parser.add_argument("--only-oracle", action="store_true", help="not against Streamward")
    parser.add_argument("--case", action="append", help="only cases whose name matches, such as 'records/*'; repeatable")
    parser.add_argument("--client", action="append", choices=[*clients.MAKERS], help="only this client; repeatable")
    parser.add_argument("--jobs", type=int, default=3, help="drivers at a time")
    parser.add_argument("--table", type=Path, help="write the table of results there")
    parser.add_argument("--check-table", type=Path, help="fail unless this file is the table of results")
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    args = parser.parse_args()
    if (args.table or args.check_table) and (not args.oracle or args.only_oracle or args.case or args.client):
        parser.error("a table needs all cases and clients on both sides: --oracle and none of --only-oracle, --case, --client")
    if not args.only_oracle and not args.binary.is_file():
        parser.error(f"there is no {args.binary}; build it with `cargo build`, or name another with --binary")
    return args


def selected(args, catalogue, driven):
    """Names of the cases of each client, after checking that drivers and `cases.toml` agree."""
    faults, chosen = [], {}
    for client in driven:
        listed = client.cases()
        faults += catalogue.take(client, listed)
        wanted = args.case or ["*"]
        names = [case.name for case in catalogue.cases if case.name in listed]
        chosen[client.name] = [n for n in names if any(fnmatch.fnmatch(n, pattern) for pattern in wanted)]
    if faults:
        sys.exit("\n".join(faults))
    if not any(chosen.values()):
        sys.exit(f"no case matches {args.case}")
    return chosen


def end(process):
    """Ends a driver, which may have servers of its own to end."""
    process.terminate()
    try:
        process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()


def drive(client, at, cases):
    """The results of a driver by case: whether it held, seconds, and what did not hold."""
    found = {}
    if not cases:
        return found
    process = client.start(at, cases)
    guard = threading.Timer(DRIVER_LIMIT, end, [process])
    guard.start()
    for line in process.stdout:
        try:
            result = json.loads(line)
            found[result["case"]] = (result["ok"], result["seconds"], result["detail"])
        except (ValueError, KeyError, TypeError):
            print(f"[{client.name}] {line}", end="", file=sys.stderr)
    guard.cancel()
    code = process.wait()
    for case in cases:
        found.setdefault(case, (False, 0, f"the driver ended with {code} and no result"))
    return found


def judged(catalogue, server, found):
    """Results of the oracle's registry turned round where it is known to deviate."""
    if server != table.ORACLE:
        return found
    for case in catalogue.deviations.keys() & found.keys():
        ok, seconds, detail = found[case]
        deviates = not ok or case in catalogue.by_chance
        found[case] = (deviates, seconds, "" if deviates else "deviates no longer")
    return found


def drive_all(args, catalogue, driven, chosen, running):
    """Results by server, client and case."""
    results = {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        work = {
            pool.submit(drive, client, fleet.at, chosen[client.name]): (fleet.name, client.name)
            for client in driven
            for fleet in running
            if fleet.name
        }
        for done in concurrent.futures.as_completed(work):
            server, client = work[done]
            found = judged(catalogue, server, done.result())
            results[server, client] = found
            good = sum(ok for ok, _, _ in found.values())
            print(f"{server:14} {client:16} {good} of {len(found)}, {sum(s for _, s, _ in found.values()):.0f} s of cases")
            for case, (ok, seconds, detail) in sorted(found.items()):
                if not ok or args.verbose:
                    print(f"    {'ok ' if ok else 'RED'} {case} {seconds:.1f} s {detail}")
            sys.stdout.flush()
    return results


def tabulate(args, text):
    """Writes the table or compares it; whether the file that was to be compared is another text."""
    if args.table:
        args.table.write_text(text)
    if args.check_table is None or args.check_table.read_text() == text:
        return False
    known = args.check_table.read_text().splitlines(keepends=True)
    sys.stdout.writelines(difflib.unified_diff(known, text.splitlines(keepends=True), str(args.check_table), "results"))
    print(f"{args.check_table} is not the table of these results; write it with --table {args.check_table}")
    return True


def main():
    args = arguments()
    begun = time.monotonic()
    catalogue = Catalogue()
    driven = [make() for name, make in clients.MAKERS.items() if not args.client or name in args.client]
    chosen = selected(args, catalogue, driven)
    areas = {name.split("/")[0] for names in chosen.values() for name in names}
    running = []
    try:
        fleets.start(args, areas, running)
        results = drive_all(args, catalogue, driven, chosen, running)
    finally:
        for fleet in running:
            fleet.stop()
    good = sum(ok for found in results.values() for ok, _, _ in found.values())
    bad = sum(not ok for found in results.values() for ok, _, _ in found.values())
    stale = False
    if args.table or args.check_table:
        stale = tabulate(args, table.render(catalogue, driven, results))
    print(f"conformance: {time.monotonic() - begun:.0f} s")
    print(f"{good} passed, {bad} failed")
    sys.exit(1 if bad or stale else 0)


if __name__ == "__main__":
    main()
