"""The three suites: where they come from, what they need, how they are run and what their results are called.

A result is a word for each test: passed, failed or skipped. A test that did not get its turn, because another one of its
process failed before it, has none.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def run(command, **options):
    """Runs a step of the preparation; its failure ends everything."""
    print("compat:", " ".join(str(part) for part in command), flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


class Suite:
    """What the suites have in common: a checkout of one release, and an environment for it."""

    name = url = tag = ""
    #: Seconds for one whole run; a suite that hangs is ended, and what it has said so far counts.
    patience = 3600

    def __init__(self, work):
        self.work = work
        given = os.environ.get("COMPAT_SOURCES")
        self.source = Path(given, self.name) if given else work / "src" / self.name

    def fetch(self):
        """Gets the release's sources, unless they are there."""
        if not self.source.exists():
            run(["git", "clone", "--quiet", "--depth", "1", "--branch", self.tag, self.url, self.source])

    def environment(self, port, database):
        """The variables by which all three find their server."""
        return os.environ | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "postgres",
            "PGDATABASE": database,
            "PATH": f"{self.work}/venv/bin:{os.environ['PATH']}",
        }

    def call(self, command, port, database, log, **options):
        """Runs the suite, or some of it; whatever it says goes to the log."""
        with open(log, "a") as out:
            try:
                subprocess.run([str(part) for part in command], env=self.environment(port, database), stdout=out,
                               stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=self.patience, **options)
            except subprocess.TimeoutExpired:
                out.write(f"\ncompat: ended after {self.patience} s\n")


class Pytest(Suite):
    """A suite that pytest runs."""

    wants = []
    common = ["pytest==8.4.2", "pytest-timeout==2.4.0"]

    def prepare(self):
        """One virtual environment for both: they share nothing but pytest."""
        python, stamp = self.work / "venv/bin/python", self.work / f"venv/.{self.name}"
        if not python.exists():
            run([sys.executable, "-m", "venv", self.work / "venv"])
        wants = self.common + self.wants
        if not stamp.exists() or stamp.read_text() != " ".join(wants):
            run([python, "-m", "pip", "install", "--quiet", *wants])
            stamp.write_text(" ".join(wants))

    def pytest(self, port, database, folder, arguments, results):
        """Runs pytest, and adds what it says of each test to `results`."""
        report = folder / "report.xml"
        report.unlink(missing_ok=True)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        quiet = ["-q", "--timeout", "60", "-o", f"cache_dir={folder / 'cache'}", "--junitxml", report]
        command = [self.work / "venv/bin/python", "-m", "pytest", *quiet, *arguments]
        self.call(command, port, database, folder / "log", cwd=self.source)
        if report.exists():
            results.update(read_junit(report))


class Psycopg(Pytest):
    """psycopg 3 with its C implementation; the tests that are marked slow look for leaks of memory in the client."""

    name, url, tag = "psycopg", "https://github.com/psycopg/psycopg", "3.3.4"
    wants = ["psycopg[binary,pool]==3.3.4", "anyio>=4", "pproxy>=2.7", "mypy==1.19.0", "dnspython", "numpy", "shapely"]

    def run(self, port, database, folder, only=None):
        """Runs the suite, or the tests named `only`."""
        dsn = f"host=127.0.0.1 port={port} user=postgres dbname={database}"
        marks = [] if os.environ.get("COMPAT_SLOW") else ["-m", "not slow"]
        results = {}
        self.pytest(port, database, folder, ["--test-dsn", dsn, *marks, *(only or ["tests"])], results)
        return results

    def environment(self, port, database):
        """The tests of connection strings want no variables of ours."""
        ours = super().environment(port, database)
        return {name: value for name, value in ours.items() if not name.startswith("PG")}


class Asyncpg(Pytest):
    """asyncpg as its wheel holds it: a checkout has nothing compiled, and must not be found instead."""

    name, url, tag = "asyncpg", "https://github.com/MagicStack/asyncpg", "v0.31.0"
    wants = ["asyncpg==0.31.0", "distro", "uvloop", "k5test==0.10.4"]
    # It reads the sources, and no server.
    others = ["--deselect", "tests/test__sourcecode.py"]

    def prepare(self):
        """Takes the tests alone out of the checkout."""
        super().prepare()
        alone = self.work / "asyncpg-tests"
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(self.source / "tests", alone / "tests")
        shutil.copy(self.source / "pyproject.toml", alone)
        self.source = alone

    def run(self, port, database, folder, only=None):
        """Runs the suite, or the tests named `only`."""
        results = {}
        self.pytest(port, database, folder, ["--capture=fd", *self.others, *(only or ["tests"])], results)
        return results


class NodePostgres(Suite):
    """node-postgres: the client's own tests, and those of its pool and its cursors."""

    name, url, tag = "node-postgres", "https://github.com/brianc/node-postgres", "pg@8.23.0"
    wants = ["pg@8.23.0", "pg-cursor@2.22.0", "async@2.6.4", "bluebird@3.7.2", "co@4.6.0", "pg-copy-streams@0.3.0",
             "mocha@11.7.5", "expect.js@0.3.1", "lodash@4"]
    #: Seconds for one file; each has a process of its own.
    patience = 120

    def prepare(self):
        """Its packages find what they need in one node_modules above them."""
        node, stamp = self.work / "node", self.work / "node/.installed"
        if not stamp.exists() or stamp.read_text() != " ".join(self.wants):
            node.mkdir(exist_ok=True)
            (node / "package.json").write_text('{"private": true}')
            run(["npm", "install", "--silent", "--no-audit", "--no-fund", *self.wants], cwd=node)
            stamp.write_text(" ".join(self.wants))
        link = self.source / "node_modules"
        if not link.exists():
            link.symlink_to(node / "node_modules")
        (self.source / "packages/pg/test/unit/client/pgpass.file").chmod(0o600)

    def environment(self, port, database):
        """No TLS: the servers here have no certificate."""
        return super().environment(port, database) | {"PGTESTNOSSL": "true"}

    def run(self, port, database, folder, only=None):
        """Runs the suite, or the files that the tests `only` are in."""
        wanted = {test.split("::")[0] for test in only or []}
        results = {}
        for package, pattern in [("pg", "*-tests.js"), ("pg-pool", "*.js"), ("pg-cursor", "*.js")]:
            here = self.source / "packages" / package
            for file in sorted((here / "test").rglob(pattern)):
                name = f"{package}/{file.relative_to(here / 'test')}"
                if (only and name not in wanted) or "native" in file.parts or "cloudflare" in file.parts:
                    continue
                said = folder / "file"
                said.unlink(missing_ok=True)
                program = ["node", file] if package == "pg" else self.mocha(file)
                self.call(program, port, database, said, cwd=here)
                text = said.read_text(errors="replace")
                with open(folder / "log", "a") as log:
                    log.write(f"\n=== {name}\n{text}")
                results.update(read_suite(name, text) if package == "pg" else read_mocha(name, text))
        return results

    def mocha(self, file):
        """Mocha with a report that can be read."""
        return [self.work / "node/node_modules/.bin/mocha", "--exit", "--reporter", "json", file]


def read_junit(report):
    """What pytest's report says: the file's and test's name → word."""
    results = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        parts = case.get("classname", "").split(".")
        place = next((at for at, part in enumerate(parts) if part.startswith("Test")), len(parts))
        test = "::".join(["/".join(parts[:place]) + ".py", *parts[place:], case.get("name", "")])
        kinds = {child.tag for child in case}
        word = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        # A test whose tear-down fails is reported twice.
        results[test] = "failed" if "failed" in (word, results.get(test)) else word
    return results


def read_suite(file, text):
    """What a file with node-postgres' own runner says: `  name ✔`. One without is a test as a whole."""
    results = {}
    for name, word in re.findall(r"^  (\S[^\n]*?) (?:[^\n]*\n)*?[^\n]*?(✔|FAILED!|\? - SKIPPED)$", text, re.MULTILINE):
        results[f"{file}::{name}"] = {"✔": "passed", "FAILED!": "failed"}.get(word, "skipped")
    broken = re.search(r"did not complete withint|\bMessage: |^Uncaught|^\s+throw ", text, re.MULTILINE)
    results[file] = "failed" if broken or "FAILED!" in text or "compat: ended" in text else "passed"
    return results


def read_mocha(file, text):
    """What mocha's report says."""
    begin = text.find("{\n")
    if begin < 0:
        return {file: "failed"}
    try:
        report = json.JSONDecoder().raw_decode(text[begin:])[0]
    except ValueError:
        return {file: "failed"}
    words = {"passes": "passed", "failures": "failed", "pending": "skipped"}
    return {f"{file}::{test['fullTitle']}": word for kind, word in words.items() for test in report[kind]}


ALL = {suite.name: suite for suite in (Psycopg, Asyncpg, NodePostgres)}
