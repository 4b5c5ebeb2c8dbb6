"""An application over SQLAlchemy and psycopg, whose every scenario is labelled: `n1-...` asks once for each row of a result,
`ok-...` does not. The label is the scenario's application_name; each has a pool of its own, as an application has."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from check import URL, expect
from sqlalchemy import ForeignKey, create_engine, delete, func, insert, make_url, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload

BASE = make_url(URL).set(query={}, drivername="postgresql+psycopg")


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    people: Mapped[list["Person"]] = relationship(back_populates="team")


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team] = relationship(back_populates="people")
    badges: Mapped[list["Badge"]] = relationship()


class Badge(Base):
    __tablename__ = "badges"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    uses: Mapped[int] = mapped_column(default=0)


class Use(Base):
    __tablename__ = "uses"
    id: Mapped[int] = mapped_column(primary_key=True)
    badge_id: Mapped[uuid.UUID]


def made():
    engine = create_engine(BASE)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for team in range(25):
            people = [Person(id=30000 + 100 * team + n, name=f"p{n}", badges=[Badge()]) for n in range(4)]
            session.add(Team(id=7000 + 3 * team, name=f"t{team}", people=people))
        session.commit()
        session.execute(insert(Use), [{"badge_id": badge} for badge in session.scalars(select(Badge.id))])
        session.commit()
    engine.dispose()


def n1_lazy_parent(session, _):
    for person in session.scalars(select(Person).limit(80)):
        str(person.team.name)


def n1_lazy_children(session, _):
    for team in session.scalars(select(Team)):
        len(team.people)


def n1_lazy_through_two(session, _):
    for team in session.scalars(select(Team).limit(10)):
        for person in team.people:
            len(person.badges)


def n1_get_by_key(session, _):
    for key in session.scalars(select(Person.id).limit(30)).all():
        session.get(Person, key)


def n1_count(session, _):
    for team in session.scalars(select(Team.id)).all():
        session.scalar(select(func.count()).select_from(Person).where(Person.team_id == team))


def n1_exists_by_uuid(session, _):
    for badge in session.scalars(select(Badge.id).limit(30)).all():
        session.scalar(select(Use.id).where(Use.badge_id == badge).limit(1))


def n1_update(session, _):
    for badge in session.scalars(select(Badge.id).limit(30)).all():
        session.execute(update(Badge).where(Badge.id == badge).values(uses=Badge.uses + 1))
    session.commit()


def n1_delete(session, _):
    for use in session.scalars(select(Use.id).order_by(Use.id).limit(20)).all():
        session.execute(delete(Use).where(Use.id == use))
    session.commit()


def n1_insert_with_flush(session, _):
    for _ in range(20):
        session.add(Use(badge_id=uuid.uuid4()))
        session.flush()
    session.commit()


def n1_over_a_pool(session, engine):
    teams = session.scalars(select(Team.id)).all()

    def ask(team):
        with engine.connect() as connection:
            connection.execute(select(Person.name).where(Person.team_id == team)).all()

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(ask, teams))


def ok_selectin(session, _):
    for _ in range(8):
        for team in session.scalars(select(Team).options(selectinload(Team.people))):
            len(team.people)
        session.expire_all()


def ok_joined(session, _):
    for _ in range(8):
        for person in session.scalars(select(Person).options(joinedload(Person.team))):
            str(person.team.name)
        session.expire_all()


def ok_identity_map(session, _):
    # As long as somebody holds them, the session knows the teams that it has loaded.
    held = session.scalars(select(Team)).all()
    expect(len(held), 25)
    for person in session.scalars(select(Person)):
        str(person.team.name)


def ok_cursor(session, _):
    found = session.connection(execution_options={"stream_results": True, "max_row_buffer": 10})
    for _ in found.execute(select(Person.id)):
        pass


def ok_many_rows_at_once(session, _):
    for _ in range(8):
        # With RETURNING it is one statement of twenty rows; without, the driver would send twenty.
        session.scalars(insert(Use).returning(Use.id), [{"badge_id": uuid.uuid4()} for _ in range(20)]).all()
        session.commit()


def ok_unit_of_work(session, _):
    # One thing with its parts, six times: each is a web request of its own.
    for number in range(6):
        team = Team(id=90000 + number, name="new", people=[Person(id=91000 + 10 * number + n, name="n") for n in range(2)])
        session.add(team)
        session.commit()
        time.sleep(0.15)


def ok_polling(session, _):
    for _ in range(20):
        session.execute(text("select id from uses order by id limit 1 for update skip locked")).all()
        session.rollback()
        time.sleep(0.02)


def ok_page_by_key(session, _):
    last = 0
    for _ in range(9):
        page = session.scalars(select(Person).where(Person.id > last).order_by(Person.id).limit(10)).all()
        last = page[-1].id


def ok_requests_of_users(session, engine):
    def request(number):
        time.sleep(number * 37 % 400 / 1000)
        with Session(engine) as own:
            person = own.get(Person, 30000 + 100 * (number % 25))
            str(person.team.name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(24)))


def ok_sequences_and_locks(session, _):
    for number in range(15):
        session.scalar(text("select nextval('uses_id_seq')"))
        session.execute(text("select pg_advisory_xact_lock(:n)"), {"n": number})
    session.commit()


def main():
    made()
    scenarios = [work for name, work in globals().items() if name.startswith(("n1_", "ok_"))]
    for work in scenarios:
        label = work.__name__.replace("_", "-") + "-py"
        engine = create_engine(BASE, pool_size=10, connect_args={"application_name": label})
        with Session(engine) as session:
            work(session, engine)
        engine.dispose()
        print("label", label)
    print("ok")


if __name__ == "__main__":
    main()
