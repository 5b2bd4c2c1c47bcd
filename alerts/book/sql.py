"""The alert book in SQL: every event once, decisions with their history, the engine's snapshots.

SQLAlchemy Core over SQLite (WAL, ``synchronous=FULL``); nothing but connection set-up is of one database. The engine's
position moves by compare-and-set in the transaction that records its output, so that a second owner fails instead of
doubling alerts.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from alerts.book.records import (
    ALERTS,
    DECISIONS,
    DERIVED,
    EVENTS,
    INCIDENTS,
    LIMITS,
    METADATA,
    PROGRESS,
    SNAPSHOTS,
    STATUSES,
    alert_json,
    event_json,
    fold,
    record_decision,
    record_events,
)
from vitals.canary import CANARY_PATIENT
from vitals.errors import BackendError, NotFound, PositionConflict
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.records import Alert, AlertEvent, BookedEvent, Decision, LimitsVersion, StatusDecision

CONSUMER = "alerts"
"""The engine's name in errors and as a consumer of the log."""
KEPT_SNAPSHOTS = 2
_POLL_S = 0.05
_WRITES = "vitalgate_writes"


def _prepare_sqlite(engine: sql.Engine) -> None:
    def connected(connection: Any, _record: Any) -> None:
        # The driver's own implicit BEGIN would start read transactions that cannot become write transactions.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sql.event.listen(engine, "connect", connected)
    sql.event.listen(engine, "begin", begun)


class SqlAlertBook:
    """Alerts at rest. ``url`` is an SQLAlchemy address such as ``sqlite:////data/alerts.db``. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._moved = threading.Condition()
        self._reached = 0
        self._engine = sql.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        with self._transaction() as tx:
            METADATA.create_all(tx)
            if tx.execute(sql.select(PROGRESS.c.position)).first() is None:
                tx.execute(PROGRESS.insert().values(consumer=CONSUMER, position=0, evaluated_to_ns=0))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with _reclassified(), self._writer.begin() as tx:
            yield tx

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _reclassified(), self._engine.connect() as connection:
            yield connection

    def position(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(sql.select(PROGRESS.c.position)).scalar_one())

    def evaluated_to_ns(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(sql.select(PROGRESS.c.evaluated_to_ns)).scalar_one())

    def apply(
        self, events: Sequence[BookedEvent], controls: Sequence[tuple[int, Control]], *, expected: int, position: int,
        evaluated_to_ns: int | None = None, derived: Sequence[tuple[int, bytes]] = (),
    ) -> None:  # fmt: skip
        """Record events, and what people decided; move the position, in one transaction.

        An event that is recorded already is passed over. ``controls`` are those the engine accepted or ignored alike:
        a version that is not new is not recorded. ``evaluated_to_ns`` is the watermark of the last tick among them.
        ``derived``: encoded readings that an entry made, kept until published, (its position, body).

        Raises:
            PositionConflict: the book does not stand at ``expected``.
            BackendError: retryable when the database is busy or full; nothing was changed.
        """
        with self._transaction() as tx:
            _move(tx, expected, position, evaluated_to_ns)
            if events:
                record_events(tx, events)
            if derived:
                tx.execute(DERIVED.insert(), [{"position": at, "body": body} for at, body in derived])
            for at, control in controls:
                record_decision(tx, at, control)
        with self._moved:
            self._reached = position
            self._moved.notify_all()

    def derived(self, after: int, limit: int) -> tuple[int, list[bytes]]:
        """Readings to publish that entries after ``after`` made, in order, and the position that they complete."""
        c = DERIVED.c
        with self._reading() as tx:
            # The position first: what is recorded up to it, the second statement sees.
            stands = int(tx.execute(sql.select(PROGRESS.c.position)).scalar_one())
            query = DERIVED.select().where(c.position > after, c.position <= stands).order_by(c.position)
            rows = tx.execute(query.limit(limit)).all()
        return (int(rows[-1][0]) if len(rows) == limit else stands), [bytes(body) for _, body in rows]

    def forget_derived(self, upto: int) -> None:
        """What entries up to ``upto`` made is published."""
        with self._transaction() as tx:
            tx.execute(DERIVED.delete().where(DERIVED.c.position <= upto))

    def alerts(
        self, *, states: Collection[AlertState] = (), severity: Severity | None = None, patient: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[Alert]:  # fmt: skip
        query = sql.select(ALERTS.c.body).order_by(ALERTS.c.raised_ns.desc(), ALERTS.c.id.desc()).limit(limit)
        if states:
            query = query.where(ALERTS.c.state.in_([str(state) for state in states]))
        if severity is not None:
            query = query.where(ALERTS.c.severity == int(severity))
        # Of everybody: the canary's alerts are nobody's to see.
        query = query.where(ALERTS.c.patient != CANARY_PATIENT if patient is None else ALERTS.c.patient == patient)
        if after:
            raised_ns = self.alert(after).raised_ns
            older = sql.and_(ALERTS.c.raised_ns == raised_ns, ALERTS.c.id < after)
            query = query.where(sql.or_(ALERTS.c.raised_ns < raised_ns, older))
        with self._reading() as tx:
            return [alert_json.decode(body) for body in tx.execute(query).scalars()]

    def alert(self, ident: str) -> Alert:
        with self._reading() as tx:
            body = tx.execute(sql.select(ALERTS.c.body).where(ALERTS.c.id == ident)).scalar_one_or_none()
        if body is None:
            raise NotFound("alert", ident)
        return alert_json.decode(body)

    def alert_after(self, ident: str, number: int) -> Alert:
        query = (
            sql.select(EVENTS.c.position, EVENTS.c.body)
            .where(EVENTS.c.alert == ident, EVENTS.c.number <= number)
            .order_by(EVENTS.c.number)
        )
        alert = None
        with self._reading() as tx:
            for position, body in tx.execute(query):
                alert = fold(alert, BookedEvent(position, event_json.decode(body)))
        if alert is None:
            raise NotFound("alert", ident)
        return alert

    def events(self, ident: str) -> list[AlertEvent]:
        query = sql.select(EVENTS.c.body).where(EVENTS.c.alert == ident).order_by(EVENTS.c.number)
        with self._reading() as tx:
            found = [event_json.decode(body) for body in tx.execute(query).scalars()]
        if not found:
            raise NotFound("alert", ident)
        return found

    def events_between(self, after: int, upto: int) -> list[BookedEvent]:
        query = (
            sql.select(EVENTS.c.position, EVENTS.c.body)
            .where(EVENTS.c.position > after, EVENTS.c.position <= upto)
            .order_by(EVENTS.c.position, EVENTS.c.place)
        )
        with self._reading() as tx:
            return [BookedEvent(position, event_json.decode(body)) for position, body in tx.execute(query)]

    def counts(self) -> Mapping[tuple[Severity, AlertState], int]:
        """How many alerts are in each severity and state, resolved ones and the canary's left out: the
        ``vitalgate_alerts`` gauge."""
        query = (
            sql.select(ALERTS.c.severity, ALERTS.c.state, sql.func.count())
            .where(ALERTS.c.state != str(AlertState.RESOLVED), ALERTS.c.patient != CANARY_PATIENT)
            .group_by(ALERTS.c.severity, ALERTS.c.state)
        )
        with self._reading() as tx:
            return {(Severity(level), AlertState(state)): int(n) for level, state, n in tx.execute(query)}

    def limits(self, patient: str) -> tuple[int, list[dict[str, Any]]]:
        history = self._limits(patient, newest=1)
        return (history[0].version, history[0].limits) if history else (0, [])

    def limits_history(self, patient: str) -> list[LimitsVersion]:
        """Every version of a patient's limits, the newest first."""
        return self._limits(patient)

    def _limits(self, patient: str, newest: int | None = None) -> list[LimitsVersion]:
        c = LIMITS.c
        query = (
            sql.select(c.version, c.position, c.set_ns, c.author, c.reason, c.body)
            .where(c.patient == patient)
            .order_by(c.version.desc())
            .limit(newest)
        )
        with self._reading() as tx:
            return [LimitsVersion(*row[:-1], limits=msgspec.json.decode(row[-1])) for row in tx.execute(query)]

    def incident(self, ident: str) -> list[Alert]:
        query = (
            sql.select(ALERTS.c.body)
            .join(INCIDENTS, INCIDENTS.c.alert == ALERTS.c.id)
            .where(INCIDENTS.c.incident == ident)
            .order_by(ALERTS.c.raised_ns, ALERTS.c.id)
        )
        with self._reading() as tx:
            return [alert_json.decode(body) for body in tx.execute(query).scalars()]

    def programmes(self) -> list[Decision]:
        return self._newest(ControlKind.PROGRAMME)

    def enrolments(self) -> list[Decision]:
        """What is in force of every patient who was ever enrolled, by patient."""
        return self._newest(ControlKind.ENROLMENT)

    def contexts(self) -> list[Decision]:
        """The clinical context in force of every patient who ever had one, by patient."""
        return self._newest(ControlKind.CONTEXT)

    def _newest(self, kind: ControlKind) -> list[Decision]:
        c = DECISIONS[kind].c
        newest = sql.select(c.subject, sql.func.max(c.version).label("version")).group_by(c.subject).subquery()
        both = sql.and_(newest.c.subject == c.subject, newest.c.version == c.version)
        return self._decisions(sql.select(*c).join(newest, both).order_by(c.subject))

    def programme_history(self, ident: str) -> list[Decision]:
        found = self._history(ControlKind.PROGRAMME, ident)
        if not found:
            raise NotFound("programme", ident)
        return found

    def enrolment(self, patient: str) -> Decision | None:
        return next(iter(self._history(ControlKind.ENROLMENT, patient, newest=1)), None)

    def enrolment_history(self, patient: str) -> list[Decision]:
        return self._history(ControlKind.ENROLMENT, patient)

    def context(self, patient: str) -> Decision | None:
        return next(iter(self._history(ControlKind.CONTEXT, patient, newest=1)), None)

    def context_history(self, patient: str) -> list[Decision]:
        return self._history(ControlKind.CONTEXT, patient)

    def _history(self, kind: ControlKind, subject: str, newest: int | None = None) -> list[Decision]:
        c = DECISIONS[kind].c
        return self._decisions(sql.select(*c).where(c.subject == subject).order_by(c.version.desc()).limit(newest))

    def _decisions(self, query: sql.Select[Any]) -> list[Decision]:
        with self._reading() as tx:
            rows = tx.execute(query).all()
        return [
            Decision(subject, version, position, set_ns, author, reason, msgspec.json.decode(body))
            for subject, version, position, set_ns, author, reason, body in rows
        ]

    def statuses(self, patient: str) -> list[StatusDecision]:
        c = STATUSES.c
        query = (
            sql.select(c.position, c.set_ns, c.author, c.body).where(c.patient == patient).order_by(c.position.desc())
        )
        with self._reading() as tx:
            rows = [(*row, msgspec.json.decode(body)) for *row, body in tx.execute(query)]
        return [
            StatusDecision(patient, position, set_ns, author, body["status"], body["from_ns"], body.get("check_ns"))
            for position, set_ns, author, body in rows
        ]

    def wait(self, position: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        with self._moved:
            # What this process applied is known without a look into the database.
            while self._reached < position and self.position() < position:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                # Woken by this process's engine; another process's shows at the next poll.
                self._moved.wait(min(left, _POLL_S))
        return True

    def forget(self, patient: str, before_ns: int) -> int:
        """Delete a patient's alerts that were raised before then and are resolved, with their events; how many."""
        over = sql.and_(
            ALERTS.c.patient == patient, ALERTS.c.state == str(AlertState.RESOLVED), ALERTS.c.raised_ns < before_ns
        )
        with self._transaction() as tx:
            for table in (EVENTS, INCIDENTS):
                tx.execute(table.delete().where(table.c.alert.in_(sql.select(ALERTS.c.id).where(over))))
            return int(tx.execute(ALERTS.delete().where(over)).rowcount)

    def save_snapshot(self, position: int, data: bytes) -> None:
        """Keep an engine snapshot; all but the newest two go."""
        with self._transaction() as tx:
            tx.execute(SNAPSHOTS.delete().where(SNAPSHOTS.c.position == position))
            tx.execute(SNAPSHOTS.insert().values(position=position, data=data))
            kept = tx.execute(
                sql.select(SNAPSHOTS.c.position).order_by(SNAPSHOTS.c.position.desc()).limit(KEPT_SNAPSHOTS)
            ).scalars()
            tx.execute(SNAPSHOTS.delete().where(SNAPSHOTS.c.position < min(kept)))

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        """(position, data) of the newest snapshot."""
        query = sql.select(SNAPSHOTS.c.position, SNAPSHOTS.c.data).order_by(SNAPSHOTS.c.position.desc()).limit(1)
        with self._reading() as tx:
            row = tx.execute(query).first()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextmanager
def _reclassified() -> Iterator[None]:
    """Database errors as ``BackendError``: what the database could not do now is retryable, what it refused is not."""
    try:
        yield
    except sql.exc.SQLAlchemyError as error:
        retryable = isinstance(error, sql.exc.OperationalError | sql.exc.TimeoutError)
        raise BackendError(f"alert book: {error}", retryable=retryable) from error


def _move(tx: Connection, expected: int, position: int, evaluated_to_ns: int | None) -> None:
    values = {"position": position}
    if evaluated_to_ns is not None:
        values["evaluated_to_ns"] = evaluated_to_ns
    moved = tx.execute(PROGRESS.update().where(PROGRESS.c.position == expected).values(**values))
    if moved.rowcount != 1:
        found = tx.execute(sql.select(PROGRESS.c.position)).scalar_one()
        raise PositionConflict(CONSUMER, expected, int(found))
