"""psycopg 3, blocking."""

import threading

import psycopg
from check import CLIENTS, OWN, SETTING, TIMES_RUN, TURNS, URL, expect, fails, run, soon
from psycopg_pool import ConnectionPool


def connect(**more):
    return psycopg.connect(URL, **more)


def works(connection):
    expect(connection.execute("select 1").fetchone(), (1,))


def prepared_statements_are_reused():
    with connect(prepare_threshold=0) as connection:
        for number in range(20):
            row = connection.execute("select %s::int * 2 /* reuse by psycopg */", [number]).fetchone()
            expect(row, (number * 2,))
        statements, runs = connection.execute(TIMES_RUN.format(marker="reuse by psycopg")).fetchone()
        assert statements == 1 and runs >= 20, (statements, runs)


def the_least_used_statements_are_closed():
    with connect(autocommit=True, prepare_threshold=0) as connection:
        connection.prepared_max = 5
        for number in range(20):
            expect(connection.execute(f"select %s::int + {number}", [1]).fetchone(), (1 + number,))
        for number in range(20):
            expect(connection.execute(f"select %s::int + {number}", [2]).fetchone(), (2 + number,))


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
        expect(connection.execute("select name from things").fetchall(), [("kept",)])


def errors_keep_the_connection():
    with connect(autocommit=True, prepare_threshold=0) as connection:
        for statement, parameters, code in [
            ("selekt 1", None, "42601"),
            ("select * from nowhere where id = %s", [1], "42P01"),
            ("select 1 / %s::int", [0], "22012"),
            ("insert into things values (%s, 'again')", [1], "23505"),
        ]:
            for _ in range(2):
                with fails(code):
                    connection.execute(statement, parameters)
                works(connection)


def an_error_fails_the_transaction():
    with connect() as connection:
        with fails("23505"):
            connection.execute("insert into things values (1, 'again')")
        with fails("25P02"):
            connection.execute("select 1")
        connection.rollback()
        works(connection)


def many_rows_go_in_and_out():
    with connect(autocommit=True) as connection:
        connection.execute("create table copied (id int, line text)")
        with connection.cursor() as cursor:
            with cursor.copy("copy copied from stdin") as copy:
                for number in range(5000):
                    copy.write_row((number, f"line {number}"))
            with cursor.copy("copy copied to stdout (format binary)") as copy:
                copy.set_types(["int4", "text"])
                expect(sum(1 for _ in copy.rows()), 5000)
            cursor.executemany("insert into copied values (%s, %s)", [(n, "many") for n in range(100)])
        expect(connection.execute("select count(*) from copied").fetchone(), (5100,))


def a_copy_may_be_given_up():
    with connect(autocommit=True) as connection:
        try:
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write_row((1, "lost"))
                raise RuntimeError("the application changed its mind")
        except RuntimeError:
            pass
        with fails("22P02"), connection.cursor().copy("copy copied from stdin") as copy:
            for _ in range(1000):
                copy.write(b"not a number\tx\n")
        try:
            with connection.cursor().copy("copy (select generate_series(1, 1000000)) to stdout") as copy:
                assert copy.read()
                raise RuntimeError("the application has read enough")  # the driver cancels the rest
        except RuntimeError:
            pass
        expect(connection.execute("select count(*) from copied").fetchone(), (5100,))


def pipelines_keep_their_order():
    with connect(autocommit=True) as connection, connection.pipeline():
        cursors = [connection.execute("select %s::int", [number]) for number in range(50)]
        expect([cursor.fetchone()[0] for cursor in cursors], list(range(50)))


def an_error_aborts_the_pipeline_up_to_its_end():
    with connect(autocommit=True) as connection:
        with fails("22012"), connection.pipeline():
            for divisor in [1, 1, 0, 1]:
                connection.execute("select 1 / %s::int", [divisor])
        works(connection)


def a_server_side_cursor_reads_in_portions():
    with connect() as connection, connection.cursor("portions", scrollable=True) as cursor:
        cursor.itersize = 10
        cursor.execute("select generate_series(1, 95)")
        expect([row[0] for row in cursor], list(range(1, 96)))
        cursor.scroll(-5)
        expect(cursor.fetchone(), (92,))


def a_cursor_may_outlive_its_transaction():
    with connect() as connection, connection.cursor("held", withhold=True) as cursor:
        cursor.execute("select generate_series(1, 3)")
        connection.commit()
        expect(cursor.fetchall(), [(1,), (2,), (3,)])


def a_query_is_cancelled():
    for cancel in ["cancel", "cancel_safe"]:
        with connect(autocommit=True) as connection:
            timer = threading.Timer(0.3, getattr(connection, cancel))
            timer.start()
            with soon(), fails("57014"):
                connection.execute("select pg_sleep(30)")
            timer.join()
            works(connection)


def notices_come_in_order():
    with connect(autocommit=True) as connection:
        heard = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        connection.execute("do $$ begin for n in 1..50 loop raise notice 'number %', n; end loop; end $$")
        expect(heard, [f"number {number}" for number in range(1, 51)])


def notifications_arrive():
    with connect(autocommit=True) as listener, connect(autocommit=True) as sender:
        listener.execute("listen psycopg_news")
        sender.execute("select pg_notify('psycopg_news', 'hello')")
        heard = next(listener.notifies(timeout=10, stop_after=1))
        expect((heard.channel, heard.payload), ("psycopg_news", "hello"))


def large_objects_keep_what_they_were_given():
    with connect() as connection:
        number = connection.execute("select lo_from_bytea(0, %s)", [b"x" * 100_000]).fetchone()[0]
        connection.commit()
        size = connection.execute("select length(lo_get(%s))", [number]).fetchone()
        connection.execute("select lo_unlink(%s)", [number])
        expect(size, (100_000,))


def each_client_of_a_pool_sees_its_own_tenant():
    failures = []
    with ConnectionPool(URL, min_size=CLIENTS, max_size=CLIENTS, kwargs={"prepare_threshold": 0}) as pool:
        pool.wait()
        together = threading.Barrier(CLIENTS)

        def client(tenant):
            try:
                with pool.connection() as connection:
                    connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
                    own = OWN.format(parameter="%s", tenant=tenant)
                    connection.execute(own, [0])
                    connection.commit()
                    together.wait(20)  # as many clients as the pool has are connected now
                    for turn in range(TURNS):
                        with connection.transaction():
                            expect(connection.execute(SETTING).fetchone(), (tenant,))
                            expect(connection.execute(own, [turn]).fetchone()[0], turn)
            except Exception as failure:  # told in the main thread
                failures.append(repr(failure))

        threads = [threading.Thread(target=client, args=[f"tenant {number}"]) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(pool.get_stats().get("connections_lost", 0), 0)
    expect(failures, [])


run(
    prepared_statements_are_reused,
    the_least_used_statements_are_closed,
    transactions_commit_and_roll_back,
    errors_keep_the_connection,
    an_error_fails_the_transaction,
    many_rows_go_in_and_out,
    a_copy_may_be_given_up,
    pipelines_keep_their_order,
    an_error_aborts_the_pipeline_up_to_its_end,
    a_server_side_cursor_reads_in_portions,
    a_cursor_may_outlive_its_transaction,
    a_query_is_cancelled,
    notices_come_in_order,
    notifications_arrive,
    large_objects_keep_what_they_were_given,
    each_client_of_a_pool_sees_its_own_tenant,
)
