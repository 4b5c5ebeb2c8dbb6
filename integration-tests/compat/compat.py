#!/usr/bin/env python3
"""Runs the drivers' own test suites directly and through poolers, and tells which tests fail beyond the direct run.

    compat.py [--suites psycopg,asyncpg,node-postgres] [--ways direct,pgweir-session,pgweir-transaction]
              [--pgweir target/debug/pgweir] [--write docs/compatibility.md]

Every run has a PostgreSQL cluster of its own. A test that failed is run once more by itself: one that passes then is
counted as unsteady and named, not as failed. A folder `src/<suite>` below .work/compat, or below the folder that
COMPAT_SOURCES names, is used instead of a clone. COMPAT_SLOW=1 also runs psycopg's slow tests.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import servers
import suites

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
#: Upstreams of a pool in transaction mode: fewer than the clients that the suites' pools open at once.
POOL = 8
DATABASE = "compat"


def main():
    """Prepares, runs, tells."""
    options = arguments()
    work = ROOT / ".work/compat"
    work.mkdir(parents=True, exist_ok=True)
    outcome = {}
    for name in options.suites.split(","):
        suite = suites.ALL[name](work)
        suite.fetch()
        suite.prepare()
        outcome[name] = {way: measure(suite, way, options, work) for way in options.ways.split(",")}
    (work / "outcome.json").write_text(json.dumps(outcome, indent=1))
    table = tell(outcome)
    print(table)
    if options.write:
        page = Path(options.write).read_text()
        head, rest = page.split(BEGIN)
        Path(options.write).write_text(head + BEGIN + table + END + rest.split(END)[1])


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", default=",".join(suites.ALL))
    parser.add_argument("--ways", default="direct,pgweir-session,pgweir-transaction")
    parser.add_argument("--pgweir", default=str(ROOT / "target/debug/pgweir"))
    parser.add_argument("--only", action="append", help="one test; may be repeated")
    parser.add_argument("--write", help="the page whose table is printed anew")
    return parser.parse_args()


def measure(suite, way, options, work):
    """One suite by one way: the word for each test, and who was unsteady."""
    folder = work / "runs" / f"{suite.name}-{way}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    results = once(suite, way, options, folder, options.only)
    failed = sorted(test for test, word in results.items() if word == "failed")
    unsteady = []
    if failed and not options.only:
        again = once(suite, way, options, folder, failed)
        unsteady = [test for test in failed if again.get(test) == "passed"]
        results.update({test: "passed" for test in unsteady})
    seconds = round(time.monotonic() - began)
    words = list(results.values())
    print(f"compat: {suite.name} {way}: {len(words)} tests, {words.count('failed')} failed, "
          f"{len(unsteady)} unsteady, {words.count('skipped')} skipped, {seconds} s", flush=True)
    return {"results": results, "unsteady": unsteady, "seconds": seconds}


def once(suite, way, options, folder, only):
    """One run against servers of its own."""
    with servers.cluster([DATABASE]) as upstream, servers.in_front(way, upstream, options.pgweir, POOL) as port:
        return suite.run(port, DATABASE, folder, only)


def tell(outcome):
    """The table, and the names below it."""
    lines = ["| suite | way | tests | passed | fail beyond direct | unsteady |", "|---|---|--:|--:|--:|--:|"]
    names = []
    for suite, ways in outcome.items():
        direct = ways.get("direct", {"results": {}})["results"]
        for way, run in ways.items():
            results = run["results"]
            ran = [test for test, word in direct.items() if word == "passed"]
            beyond = [] if way == "direct" else [test for test in ran if results.get(test) != "passed"]
            passed = list(results.values()).count("passed")
            release = suites.ALL[suite].tag
            lines.append(f"| {suite} {release} | {way} | {len(results)} | {passed} | "
                         f"{'–' if way == 'direct' else len(beyond)} | {len(run['unsteady'])} |")
            names += [f"- {suite}, {way}: `{test}`" for test in beyond]
    return "\n".join(lines) + "\n" + ("\nBeyond the direct run:\n\n" + "\n".join(names) + "\n" if names else "")


if __name__ == "__main__":
    main()
