"""asyncpg, with its own cache of prepared statements."""

import asyncio
import io

import asyncpg
from check import CLIENTS, OWN, SETTING, TIMES_RUN, TURNS, URL, expect, fails, run, soon


class connected:
    """A connection for a block, with every option that `asyncpg.connect` has."""

    def __init__(self, **more):
        self.more = more

    async def __aenter__(self):
        self.connection = await asyncpg.connect(URL, **self.more)
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


async def prepared_statements_are_reused():
    async with connected() as connection, connection.transaction():
        for number in range(20):
            expect(await connection.fetchval("select $1::int * 2 /* reuse by asyncpg */", number), number * 2)
        prepared = await connection.prepare("select $1::text /* reuse by asyncpg too */")
        for number in range(20):
            expect(await prepared.fetchval(str(number)), str(number))
        for marker in ["reuse by asyncpg *", "reuse by asyncpg too"]:
            statements, runs = await connection.fetchrow(TIMES_RUN.format(marker=marker))
            assert statements == 1 and runs >= 20, (marker, statements, runs)


async def a_small_cache_closes_what_it_drops():
    async with connected(statement_cache_size=5) as connection:
        for _ in range(2):
            for number in range(20):
                expect(await connection.fetchval(f"select $1::int + {number}", 1), 1 + number)
    async with connected(statement_cache_size=0) as connection:
        expect(await connection.fetchval("select $1::int", 7), 7)


async def transactions_commit_and_roll_back():
    async with connected() as connection:
        await connection.execute("create table asyncpg_things (id int primary key)")
        async with connection.transaction():
            await connection.execute("insert into asyncpg_things values ($1)", 1)
            with fails("23505"):
                async with connection.transaction():  # a savepoint
                    await connection.execute("insert into asyncpg_things values ($1)", 2)
                    await connection.execute("insert into asyncpg_things values ($1)", 1)
        rolled_back = connection.transaction(isolation="serializable")
        await rolled_back.start()
        await connection.execute("insert into asyncpg_things values ($1)", 3)
        await rolled_back.rollback()
        expect(await connection.fetch("select id from asyncpg_things"), [(1,)])


async def errors_keep_the_connection():
    async with connected() as connection:
        for statement, arguments, code in [
            ("selekt 1", [], "42601"),
            ("select * from nowhere where id = $1", [1], "42P01"),
            ("select 1 / $1::int", [0], "22012"),
            ("insert into asyncpg_things values ($1)", [1], "23505"),
        ]:
            for _ in range(2):
                with fails(code):
                    await connection.fetch(statement, *arguments)
                expect(await connection.fetchval("select $1::int", 1), 1)


async def types_are_looked_up():
    async with connected() as connection:
        await connection.execute("create type mood as enum ('calm', 'wild'); create type pair as (a int, b mood[])")
        pair = await connection.fetchval("select row(1, array['calm', 'wild']::mood[])::pair")
        expect((pair["a"], pair["b"]), (1, ["calm", "wild"]))


async def rows_are_copied_in_and_out():
    async with connected() as connection:
        await connection.execute("create table asyncpg_copied (id int, line text)")
        rows = [(number, f"line {number}") for number in range(5000)]
        expect(await connection.copy_records_to_table("asyncpg_copied", records=rows), "COPY 5000")
        out = io.BytesIO()
        await connection.copy_from_query("select * from asyncpg_copied where id < $1", 100, output=out, format="csv")
        expect(out.getvalue().count(b"\n"), 100)
        with fails("22P02"):
            source = io.BytesIO(b"not a number,x\n" * 1000)
            await connection.copy_to_table("asyncpg_copied", source=source, format="csv")
        await connection.executemany("insert into asyncpg_copied values ($1, $2)", rows[:500])
        expect(await connection.fetchval("select count(*) from asyncpg_copied"), 5500)


async def a_cursor_reads_in_portions():
    async with connected() as connection, connection.transaction():
        seen = [row[0] async for row in connection.cursor("select generate_series(1, $1::int)", 95, prefetch=10)]
        expect(seen, list(range(1, 96)))
        cursor = await connection.cursor("select generate_series(1, 10)")
        await cursor.forward(5)
        expect(await cursor.fetch(2), [(6,), (7,)])


async def a_query_is_cancelled():
    async with connected() as connection:
        for _ in range(3):
            with soon():
                try:
                    await connection.execute("select pg_sleep(30)", timeout=0.2)
                    raise AssertionError("nothing was cancelled")
                except asyncio.TimeoutError:
                    pass
            expect(await connection.fetchval("select $1::int", 1), 1)
        task = asyncio.create_task(connection.fetch("select pg_sleep($1)", 30))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with soon():
            expect(await connection.fetchval("select 2"), 2)


async def notifications_arrive():
    async with connected() as listener, connected() as sender:
        heard = asyncio.get_running_loop().create_future()

        def hear(_connection, _pid, *what):
            heard.set_result(what)

        await listener.add_listener("asyncpg_news", hear)
        await sender.execute("select pg_notify('asyncpg_news', $1)", "hello")
        expect(await asyncio.wait_for(heard, 10), ("asyncpg_news", "hello"))
        await listener.remove_listener("asyncpg_news", hear)


async def each_client_of_a_pool_sees_its_own_tenant():
    async with asyncpg.create_pool(URL, min_size=CLIENTS, max_size=CLIENTS) as pool:
        together = asyncio.Barrier(CLIENTS)

        async def client(tenant):
            async with pool.acquire() as connection:
                await connection.execute("select set_config('app.tenant_id', $1, false)", tenant)
                own = OWN.format(parameter="$1", tenant=tenant)
                await connection.fetchval(own, 0)
                await together.wait()
                for turn in range(TURNS):
                    expect(await connection.fetchval(SETTING), tenant)
                    async with connection.transaction():
                        expect(await connection.fetchval(SETTING), tenant)
                        expect(await connection.fetchval(own, turn), turn)

        await asyncio.gather(*[client(f"tenant {number}") for number in range(CLIENTS)])
        # What a client sets is reset by the pool when it gives its connection back.
        values = await asyncio.gather(
            *[pool.fetchval("select current_setting('app.tenant_id', true)") for _ in range(3 * CLIENTS)]
        )
        expect(set(values) - {None, ""}, set())


run(
    prepared_statements_are_reused,
    a_small_cache_closes_what_it_drops,
    transactions_commit_and_roll_back,
    errors_keep_the_connection,
    types_are_looked_up,
    rows_are_copied_in_and_out,
    a_cursor_reads_in_portions,
    a_query_is_cancelled,
    notifications_arrive,
    each_client_of_a_pool_sees_its_own_tenant,
)
