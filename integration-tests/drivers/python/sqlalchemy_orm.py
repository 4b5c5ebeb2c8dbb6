"""SQLAlchemy 2 over psycopg, and over asyncpg with asyncio: Core, ORM, its own pools."""

import asyncio
import threading

from check import CLIENTS, OWN, SETTING, TIMES_RUN, TURNS, URL, expect, fails, run, soon
from sqlalchemy import ForeignKey, create_engine, event, inspect, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

BASE = make_url(URL).set(query={})
OWN = OWN.replace("{parameter}::int", "cast({parameter} as int)")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def engine(**more):
    more.setdefault("connect_args", {"prepare_threshold": 0})
    return create_engine(BASE.set(drivername="postgresql+psycopg"), **more)


def async_engine(**more):
    return create_async_engine(BASE.set(drivername="postgresql+asyncpg"), **more)


def a_schema_is_made_and_looked_at():
    bind = engine()
    Base.metadata.create_all(bind)
    tables = inspect(bind)
    expect(sorted(tables.get_table_names()), ["authors", "books"])
    expect([key["referred_table"] for key in tables.get_foreign_keys("books")], ["authors"])
    bind.dispose()


def sessions_commit_and_roll_back():
    bind = engine()
    with Session(bind) as session:
        session.add(Author(name="Ada", books=[Book(title=f"Volume {number}") for number in range(100)]))
        session.commit()
        with fails("23505"), session.begin_nested():  # a savepoint
            session.add(Author(name="Ada"))
            session.flush()
        session.add(Author(name="Grace"))
        session.commit()
        session.add(Author(name="Nobody"))
        session.flush()
        session.rollback()
        names = session.scalars(select(Author.name).order_by(Author.name)).all()
        expect(names, ["Ada", "Grace"])
        ada = session.scalars(select(Author).where(Author.name == "Ada").options(selectinload(Author.books))).one()
        expect(len(ada.books), 100)
    bind.dispose()


def prepared_statements_are_reused():
    bind = engine()
    with bind.connect() as connection:
        for number in range(20):
            found = connection.scalar(text("select cast(:n as int) * 2 /* reuse by SQLAlchemy */"), {"n": number})
            expect(found, number * 2)
        statements, runs = connection.execute(text(TIMES_RUN.format(marker="reuse by SQLAlchemy").replace(":", r"\:")))\
            .one()
        assert statements == 1 and runs >= 20, (statements, runs)
    bind.dispose()


def errors_keep_the_connection():
    bind = engine(pool_size=1, max_overflow=0)
    for statement, code in [("selekt 1", "42601"), ("select * from nowhere", "42P01"), ("select 1/0", "22012")]:
        for _ in range(2):
            with bind.connect() as connection:
                with fails(code):
                    connection.execute(text(statement))
                connection.rollback()
                expect(connection.scalar(text("select 1")), 1)
    bind.dispose()


def isolation_levels_do_not_stay():
    bind = engine(pool_size=1, max_overflow=0)
    level = text("show transaction isolation level")
    with bind.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        expect(connection.scalar(level), "serializable")
    with bind.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum books"))
    with bind.connect() as connection:
        expect(connection.scalar(level), "read committed")
    bind.dispose()


def results_are_streamed():
    bind = engine()
    with bind.connect().execution_options(stream_results=True, max_row_buffer=10) as connection:
        found = connection.execute(text("select generate_series(1, 500)")).scalars()
        expect(list(found), list(range(1, 501)))
    bind.dispose()


def rows_are_copied_by_the_driver_below():
    bind = engine()
    with bind.begin() as connection:
        cursor = connection.connection.cursor()
        with cursor.copy("copy authors (name) from stdin") as copy:
            for number in range(1000):
                copy.write_row((f"copied {number}",))
        expect(connection.scalar(text("select count(*) from authors where name like 'copied %'")), 1000)
    bind.dispose()


def a_query_is_cancelled_by_the_driver_below():
    bind = engine()
    with bind.connect() as connection:
        timer = threading.Timer(0.3, connection.connection.driver_connection.cancel_safe)
        timer.start()
        with soon(), fails("57014"):
            connection.execute(text("select pg_sleep(30)"))
        timer.join()
        connection.rollback()
        expect(connection.scalar(text("select 1")), 1)
    bind.dispose()


def each_client_of_a_pool_sees_its_own_tenant():
    bind = engine(pool_size=CLIENTS, max_overflow=0, pool_pre_ping=True)
    together, failures = threading.Barrier(CLIENTS), []

    def client(tenant):
        try:
            with bind.connect() as connection:
                connection.execute(text("select set_config('app.tenant_id', :tenant, false)"), {"tenant": tenant})
                own = text(OWN.format(parameter=":n", tenant=tenant))
                connection.execute(own, {"n": 0})
                connection.commit()
                together.wait(20)
                for turn in range(TURNS):
                    with connection.begin():
                        expect(connection.scalar(text(SETTING)), tenant)
                        expect(connection.scalar(own, {"n": turn}), turn)
        except Exception as failure:  # told in the main thread
            failures.append(repr(failure))

    threads = [threading.Thread(target=client, args=[f"tenant {number}"]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bind.dispose()
    expect(failures, [])


async def asyncio_sessions_commit_and_roll_back():
    bind = async_engine()
    async with AsyncSession(bind) as session:
        session.add(Author(name="Barbara", books=[Book(title="Data")]))
        await session.commit()
        with fails("23505"):
            async with session.begin_nested():
                session.add(Author(name="Barbara"))
                await session.flush()
        await session.rollback()
        found = await session.scalars(select(Author).where(Author.name == "Barbara").options(selectinload(Author.books)))
        expect([book.title for book in found.one().books], ["Data"])
        stream = await session.stream(text("select generate_series(1, 500)"))
        expect([row[0] async for row in stream], list(range(1, 501)))
    await bind.dispose()


async def each_asyncio_client_sees_its_own_tenant():
    # The tenant is set where the pool hands a connection out: the usual place in an application.
    bind = async_engine(pool_size=CLIENTS, max_overflow=0)
    handed_out = []

    @event.listens_for(bind.sync_engine, "connect")
    def set_tenant(connection, _record):
        handed_out.append(f"tenant {len(handed_out)}")
        cursor = connection.cursor()
        cursor.execute(f"select set_config('app.tenant_id', '{handed_out[-1]}', false)")
        cursor.close()
        connection.commit()

    together, seen = asyncio.Barrier(CLIENTS), []

    async def client():
        async with bind.connect() as connection:
            tenant = await connection.scalar(text(SETTING))
            own = text(OWN.format(parameter=":n", tenant=tenant))
            seen.append(tenant)
            await connection.execute(own, {"n": 0})
            await connection.commit()
            await together.wait()
            for turn in range(TURNS):
                async with connection.begin():
                    expect(await connection.scalar(text(SETTING)), tenant)
                    expect(await connection.scalar(own, {"n": turn}), turn)

    await asyncio.gather(*[client() for _ in range(CLIENTS)])
    expect(sorted(seen), sorted(handed_out))
    await bind.dispose()


run(
    a_schema_is_made_and_looked_at,
    sessions_commit_and_roll_back,
    prepared_statements_are_reused,
    errors_keep_the_connection,
    isolation_levels_do_not_stay,
    results_are_streamed,
    rows_are_copied_by_the_driver_below,
    a_query_is_cancelled_by_the_driver_below,
    each_client_of_a_pool_sees_its_own_tenant,
    asyncio_sessions_commit_and_roll_back,
    each_asyncio_client_sees_its_own_tenant,
)
