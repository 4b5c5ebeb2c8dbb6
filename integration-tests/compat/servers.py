"""Throw-away servers for one run of one suite: PostgreSQL, and what stands in front of it."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PGWEIR_TOML = """\
listen = "127.0.0.1:{port}"
workers = 2
max_clients = 1000

[admin]
listen = "127.0.0.1:{admin}"

[auth]
method = "trust"

[pool]
mode = "{mode}"
size = {size}
queue_timeout = "30s"

[databases."*"]
upstream = "postgres://127.0.0.1:{upstream}"

[log]
level = "info"
file = "{folder}/pgweir.log"
"""

PGBOUNCER_INI = """\
[databases]
* = host=127.0.0.1 port={upstream}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 1000
max_prepared_statements = 200
ignore_startup_parameters = extra_float_digits
logfile = {folder}/pgbouncer.log
"""

# max_prepared_transactions lets the two-phase tests run; the rest makes a server that is thrown away fast.
POSTGRESQL_CONF = """
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
max_prepared_transactions = 20
"""


def free_port():
    """A port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def postgres_bin():
    """The folder with initdb and pg_ctl: PGWEIR_PG_BIN, or the newest that Debian has installed."""
    folders = [os.environ.get("PGWEIR_PG_BIN", "")]
    folders += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    for folder in folders:
        if folder and Path(folder, "initdb").exists():
            return Path(folder)
    raise SystemExit("compat: no PostgreSQL server found; set PGWEIR_PG_BIN to the folder with initdb")


def as_server_account(command):
    """PostgreSQL refuses to run as root: the account `postgres` does it then."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


@contextlib.contextmanager
def cluster(databases):
    """A PostgreSQL with trust for everybody and these databases; yields its port."""
    folder = Path(tempfile.mkdtemp(prefix="pgweir-compat-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    bin, data, port = postgres_bin(), folder / "data", free_port()
    run = lambda *command: subprocess.run(as_server_account([str(part) for part in command]), check=True,
                                          stdout=subprocess.DEVNULL)
    try:
        run(bin / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(POSTGRESQL_CONF.format(port=port, folder=folder))
        run(bin / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "start")
        for database in databases:
            run(bin / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", database)
        yield port
    finally:
        if (data / "postmaster.pid").exists():
            run(bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def in_front(way, upstream, pgweir, size):
    """What stands between the suite and the server on port `upstream`; yields the port for the suite."""
    if way == "direct":
        yield upstream
        return
    product, mode = way.split("-")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgweir-compat-") as folder:
        os.chmod(folder, 0o777)
        size = 100 if mode == "session" else size
        facts = dict(port=port, admin=free_port(), mode=mode, size=size, upstream=upstream, folder=folder)
        if product == "pgweir":
            Path(folder, "pgweir.toml").write_text(PGWEIR_TOML.format(**facts))
            command = [pgweir, "serve", "--config", f"{folder}/pgweir.toml"]
        else:
            Path(folder, "pgbouncer.ini").write_text(PGBOUNCER_INI.format(**facts))
            command = as_server_account([shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", f"{folder}/pgbouncer.ini"])
        with open(Path(folder, "out"), "w") as out:
            server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            await_port(port, server, Path(folder, "out"))
            yield port
        finally:
            server.kill()
            server.wait()


def await_port(port, server, out):
    """Returns once somebody listens; whoever should have been started is told of otherwise."""
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"compat: {server.args[0]} does not listen:\n{out.read_text()}")
