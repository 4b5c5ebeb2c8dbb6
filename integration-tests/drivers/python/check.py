"""What the programs of this folder share. Each takes a connection URL and prints one line for each check that holds;
the first that does not ends it with status 1 and says why. Nothing in them depends on whether a proxy is in between."""

import asyncio
import inspect
import sys
import time
import traceback

URL = sys.argv[1]
CLIENTS = 12
"""More than a pool before the server may open connections to it."""
TURNS = 10
"""Transactions of each client where many run at once."""

SETTING = "select current_setting('app.tenant_id')"
"""What each client asks for again and again: its own tenant, whatever the others set."""

OWN = "select {parameter}::int, pg_sleep(0.002) /* {tenant} */"
"""A statement that only one client prepares, and long enough for the others to take its server away meanwhile."""

TIMES_RUN = """select count(*)::int, coalesce(sum(generic_plans + custom_plans), 0)::int from held_statements
    where statement like '%{marker}%' and statement not like '%held_statements%'"""
"""How many statements with `marker` this server process holds, and how often it ran them."""


def run(*checks):
    """Runs checks, plain functions or coroutines, one after the other."""
    for check in checks:
        try:
            asyncio.run(check()) if inspect.iscoroutinefunction(check) else check()
        except BaseException:
            traceback.print_exc()
            sys.exit(f"FAILED: {check.__name__}")
        print("holds:", check.__name__, flush=True)
    print("ok")


def expect(found, wanted):
    """Fails unless both are equal."""
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


class fails:
    """A block of statements that has to fail with this SQLSTATE."""

    def __init__(self, code):
        self.code = code

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace):
        assert error is not None, f"went well instead of failing with {self.code}"
        found = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
        assert found == self.code, f"failed with {found}, wanted {self.code}: {error!r}"
        return True


class soon:
    """A block that must not take as long as the query in it would."""

    def __enter__(self):
        self.begun = time.monotonic()

    def __exit__(self, kind, _error, _trace):
        took = time.monotonic() - self.begun
        assert kind is not None or took < 10, f"took {took} s"
