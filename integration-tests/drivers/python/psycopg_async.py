"""psycopg 3 with asyncio."""

import asyncio

from check import CLIENTS, OWN, SETTING, TIMES_RUN, TURNS, URL, expect, fails, run, soon
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool


async def connect(**more):
    return await AsyncConnection.connect(URL, **more)


async def value(connection, statement, parameters=None):
    return (await (await connection.execute(statement, parameters)).fetchone())[0]


async def prepared_statements_are_reused():
    async with await connect(prepare_threshold=0) as connection:
        for number in range(20):
            expect(await value(connection, "select %s::int * 2 /* reuse by asyncio */", [number]), number * 2)
        cursor = await connection.execute(TIMES_RUN.format(marker="reuse by asyncio"))
        statements, runs = await cursor.fetchone()
        assert statements == 1 and runs >= 20, (statements, runs)


async def transactions_commit_and_roll_back():
    async with await connect(autocommit=True) as connection:
        await connection.execute("create table async_things (id int primary key)")
        async with connection.transaction():
            await connection.execute("insert into async_things values (1)")
            with fails("23505"):
                async with connection.transaction():
                    await connection.execute("insert into async_things values (2)")
                    await connection.execute("insert into async_things values (1)")
        async with connection.transaction(force_rollback=True):
            await connection.execute("insert into async_things values (3)")
        expect(await value(connection, "select array_agg(id) from async_things"), [1])


async def pipelines_keep_their_order():
    async with await connect(autocommit=True, prepare_threshold=0) as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", [number]) for number in range(200)]
            expect([(await cursor.fetchone())[0] for cursor in cursors], list(range(200)))
        for broken in ["select * from nowhere", "selekt 1"]:
            try:
                async with connection.pipeline() as pipeline:
                    await connection.execute("select %s::int", [1])
                    await connection.execute(broken)
                    await connection.execute("select %s::int", [2])
                    await pipeline.sync()
                raise AssertionError("an error in the pipeline was not told")
            except AssertionError:
                raise
            except Exception as error:
                assert error.sqlstate in ("42P01", "42601"), error
            expect(await value(connection, "select %s::int", [3]), 3)


async def a_pipeline_may_hold_transactions():
    async with await connect(autocommit=True) as connection:
        async with connection.pipeline():
            async with connection.transaction():
                await connection.execute("insert into async_things values (10)")
            async with connection.transaction(force_rollback=True):
                await connection.execute("insert into async_things values (11)")
        expect(await value(connection, "select count(*) from async_things where id >= 10"), 1)


async def rows_are_copied_in_and_out():
    async with await connect(autocommit=True) as connection, connection.cursor() as cursor:
        await connection.execute("create table async_copied (id int, line text)")
        async with cursor.copy("copy async_copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in range(5000):
                await copy.write_row((number, f"line {number}"))
        async with cursor.copy("copy async_copied to stdout") as copy:
            expect(len([row async for row in copy.rows()]), 5000)


async def rows_are_streamed_one_by_one():
    async with await connect(autocommit=True) as connection, connection.cursor() as cursor:
        seen = [row[0] async for row in cursor.stream("select generate_series(1, %s)", [1000])]
        expect(seen, list(range(1, 1001)))


async def a_cancelled_task_cancels_its_query():
    async with await connect(autocommit=True) as connection:
        task = asyncio.create_task(connection.execute("select pg_sleep(30)"))
        await asyncio.sleep(0.3)
        task.cancel()
        with soon():
            try:
                await task
                raise AssertionError("nothing was cancelled")
            except asyncio.CancelledError:
                pass
        expect(await value(connection, "select 1"), 1)
        slow = asyncio.create_task(connection.execute("select pg_sleep(30)"))
        await asyncio.sleep(0.3)
        await connection.cancel_safe()
        with soon(), fails("57014"):
            await slow
        expect(await value(connection, "select 1"), 1)


async def each_client_of_a_pool_sees_its_own_tenant():
    async with AsyncConnectionPool(
        URL, min_size=CLIENTS, max_size=CLIENTS, open=False, kwargs={"prepare_threshold": 0}
    ) as pool:
        await pool.wait()
        together = asyncio.Barrier(CLIENTS)

        async def client(tenant):
            async with pool.connection() as connection:
                await connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
                own = OWN.format(parameter="%s", tenant=tenant)
                await connection.execute(own, [0])
                await connection.commit()
                await together.wait()
                for turn in range(TURNS):
                    async with connection.transaction():
                        expect(await value(connection, SETTING), tenant)
                        expect(await value(connection, own, [turn]), turn)

        await asyncio.gather(*[client(f"tenant {number}") for number in range(CLIENTS)])


run(
    prepared_statements_are_reused,
    transactions_commit_and_roll_back,
    pipelines_keep_their_order,
    a_pipeline_may_hold_transactions,
    rows_are_copied_in_and_out,
    rows_are_streamed_one_by_one,
    a_cancelled_task_cancels_its_query,
    each_client_of_a_pool_sees_its_own_tenant,
)
