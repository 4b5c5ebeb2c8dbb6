"""psycopg 3 as an application uses it. Argument: a connection URL. Ends with "ok", or with what went wrong."""

import sys
import threading
import time

import psycopg
from psycopg.errors import DivisionByZero, QueryCanceled, UndefinedTable

URL = sys.argv[1]


def connect(**more):
    return psycopg.connect(URL, **more)


def prepared_statements_are_reused():
    with connect(autocommit=True, prepare_threshold=0) as connection:
        for number in range(20):
            row = connection.execute("select %s::int * 2", [number]).fetchone()
            assert row == (number * 2,), row
        # Past the driver's own limit, it closes what it used least.
        connection.prepared_max = 5
        for number in range(20):
            row = connection.execute(f"select %s::int + {number}", [1]).fetchone()
            assert row == (1 + number,), row


def transactions_commit_and_roll_back():
    with connect() as connection:
        connection.execute("create table things (id int primary key, name text)")
        connection.commit()
        with connection.transaction():
            connection.execute("insert into things values (1, 'kept')")
            try:
                with connection.transaction():  # a savepoint
                    connection.execute("insert into things values (2, 'dropped')")
                    raise RuntimeError
            except RuntimeError:
                pass
        connection.execute("insert into things values (3, 'rolled back')")
        connection.rollback()
        assert connection.execute("select name from things").fetchall() == [("kept",)]


def errors_keep_the_connection():
    with connect(autocommit=True) as connection:
        for statement, error in [("select 1/0", DivisionByZero), ("select * from nowhere", UndefinedTable)]:
            try:
                connection.execute(statement)
                raise AssertionError(f"{statement} went well")
            except error:
                pass
            assert connection.execute("select 1").fetchone() == (1,)


def many_rows_go_in_and_out():
    with connect(autocommit=True) as connection:
        connection.execute("create table copied (id int, line text)")
        with connection.cursor() as cursor:
            with cursor.copy("copy copied from stdin") as copy:
                for number in range(5000):
                    copy.write_row((number, f"line {number}"))
            with cursor.copy("copy copied to stdout") as copy:
                assert sum(1 for _ in copy.rows()) == 5000
            cursor.executemany("insert into copied values (%s, %s)", [(n, "many") for n in range(100)])
        try:
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write_row((1, "lost"))
                raise RuntimeError("the application changed its mind")
        except RuntimeError:
            pass
        assert connection.execute("select count(*) from copied").fetchone() == (5100,)


def pipelines_keep_their_order():
    with connect(autocommit=True) as connection, connection.pipeline():
        cursors = [connection.execute("select %s::int", [number]) for number in range(50)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(50))


def a_server_side_cursor_reads_in_portions():
    with connect() as connection, connection.cursor("portions") as cursor:
        cursor.itersize = 10
        cursor.execute("select generate_series(1, 95)")
        assert [row[0] for row in cursor] == list(range(1, 96))


def a_query_is_cancelled():
    with connect(autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        begun = time.monotonic()
        try:
            connection.execute("select pg_sleep(30)")
            raise AssertionError("nothing was cancelled")
        except QueryCanceled:
            pass
        assert time.monotonic() - begun < 10
        timer.join()
        assert connection.execute("select 1").fetchone() == (1,)


def many_clients_share_few_servers():
    failures = []

    def client(number):
        try:
            with connect(prepare_threshold=0, application_name=f"client {number}") as connection:
                for turn in range(10):
                    with connection.transaction():
                        row = connection.execute("select %s::int, current_setting('application_name')", [turn])
                        assert row.fetchone() == (turn, f"client {number}")
        except Exception as failure:  # told in the main thread
            failures.append(repr(failure))

    threads = [threading.Thread(target=client, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


for behaviour in [
    prepared_statements_are_reused,
    transactions_commit_and_roll_back,
    errors_keep_the_connection,
    many_rows_go_in_and_out,
    pipelines_keep_their_order,
    a_server_side_cursor_reads_in_portions,
    a_query_is_cancelled,
    many_clients_share_few_servers,
]:
    print(behaviour.__name__, flush=True)
    behaviour()
print("ok")
