"""The alert book in SQL: every event once, limits with their history, the engine's snapshots.

SQLAlchemy Core over SQLite (WAL, ``synchronous=FULL``); nothing but connection set-up is of one database. The engine's
position moves by compare-and-set in the transaction that records its output, so that a second owner fails instead of
doubling alerts.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, UniqueConstraint
from sqlalchemy.engine import Connection

from alerts.controls import read_limits
from vitals.canary import CANARY_PATIENT
from vitals.errors import BackendError, InvalidRequest, NotFound, PositionConflict
from vitals.glossary import TELLING, AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.ports import Alert, AlertEvent, BookedEvent

CONSUMER = "alerts"
"""The engine's name in errors and as a consumer of the log."""
KEPT_SNAPSHOTS = 2
_POLL_S = 0.05
_WRITES = "vitalgate_writes"

_metadata = sql.MetaData()
_progress = Table(
    "alert_progress", _metadata,
    Column("consumer", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("evaluated_to_ns", BigInteger, nullable=False),
)  # fmt: skip
_alerts = Table(
    "alerts", _metadata,
    Column("id", String(40), primary_key=True),
    Column("patient", String(64), nullable=False, index=True),
    Column("severity", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("raised_ns", BigInteger, nullable=False, index=True),
    Column("body", Text, nullable=False),
)  # fmt: skip
_events = Table(
    "alert_events", _metadata,
    Column("id", String(40), primary_key=True),
    Column("alert", String(40), ForeignKey("alerts.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("alert", "number"),
    UniqueConstraint("position", "place"),
)  # fmt: skip
_limits = Table(
    "patient_limits", _metadata,
    Column("patient", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("set_ns", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip
_snapshots = Table(
    "alert_snapshots", _metadata,
    Column("position", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)  # fmt: skip
_position = Column("position", BigInteger, primary_key=True)
_derived = Table("derived_readings", _metadata, _position, Column("body", LargeBinary, nullable=False))

_event_json = msgspec.json.Decoder(AlertEvent)
_alert_json = msgspec.json.Decoder(Alert)


def fold(alert: Alert | None, booked: BookedEvent) -> Alert:
    """The alert after one more event.

    Values, limit, quality and text are those of the last event that told a person to look; the owner is whoever
    acknowledged last.
    """
    position, event = booked
    if alert is None:
        alert = Alert(
            id=event.alert, patient=event.patient, rule=event.rule, rule_version=event.rule_version,
            severity=event.severity, state=event.state, raised_ns=event.at_ns, updated_ns=event.at_ns,
            position=position,
        )  # fmt: skip
    changes: dict[str, Any] = {
        "rule": event.rule, "severity": event.severity, "state": event.state, "updated_ns": event.at_ns,
        "position": position,
    }  # fmt: skip
    if event.kind in TELLING:
        changes |= {"values": event.values, "limit": event.limit, "quality": event.quality, "text": event.text}
    if event.kind == "acknowledged":
        changes["owner"] = event.author
    return msgspec.structs.replace(alert, **changes)


class LimitsVersion(msgspec.Struct, frozen=True):
    """One version of a patient's limits: who set it, when, why."""

    version: int
    position: int
    set_ns: int
    author: str
    reason: str
    limits: list[dict[str, Any]]


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
            _metadata.create_all(tx)
            if tx.execute(sql.select(_progress.c.position)).first() is None:
                tx.execute(_progress.insert().values(consumer=CONSUMER, position=0, evaluated_to_ns=0))

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
            return int(tx.execute(sql.select(_progress.c.position)).scalar_one())

    def evaluated_to_ns(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(sql.select(_progress.c.evaluated_to_ns)).scalar_one())

    def apply(
        self, events: Sequence[BookedEvent], controls: Sequence[tuple[int, Control]], *, expected: int, position: int,
        evaluated_to_ns: int | None = None, derived: Sequence[tuple[int, bytes]] = (),
    ) -> None:  # fmt: skip
        """Record events, and the limits of ``limits`` controls; move the position, in one transaction.

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
                _record_events(tx, events)
            if derived:
                tx.execute(_derived.insert(), [{"position": at, "body": body} for at, body in derived])
            for at, control in controls:
                if control.kind is ControlKind.LIMITS:
                    _record_limits(tx, at, control)
        with self._moved:
            self._reached = position
            self._moved.notify_all()

    def derived(self, after: int, limit: int) -> tuple[int, list[bytes]]:
        """Readings to publish that entries after ``after`` made, in order, and the position that they complete."""
        c = _derived.c
        with self._reading() as tx:
            # The position first: what is recorded up to it, the second statement sees.
            stands = int(tx.execute(sql.select(_progress.c.position)).scalar_one())
            query = _derived.select().where(c.position > after, c.position <= stands).order_by(c.position)
            rows = tx.execute(query.limit(limit)).all()
        return (int(rows[-1][0]) if len(rows) == limit else stands), [bytes(body) for _, body in rows]

    def forget_derived(self, upto: int) -> None:
        """What entries up to ``upto`` made is published."""
        with self._transaction() as tx:
            tx.execute(_derived.delete().where(_derived.c.position <= upto))

    def alerts(
        self, *, states: Collection[AlertState] = (), severity: Severity | None = None, patient: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[Alert]:  # fmt: skip
        query = sql.select(_alerts.c.body).order_by(_alerts.c.raised_ns.desc(), _alerts.c.id.desc()).limit(limit)
        if states:
            query = query.where(_alerts.c.state.in_([str(state) for state in states]))
        if severity is not None:
            query = query.where(_alerts.c.severity == int(severity))
        # Of everybody: the canary's alerts are nobody's to see.
        query = query.where(_alerts.c.patient != CANARY_PATIENT if patient is None else _alerts.c.patient == patient)
        if after:
            raised_ns = self.alert(after).raised_ns
            older = sql.and_(_alerts.c.raised_ns == raised_ns, _alerts.c.id < after)
            query = query.where(sql.or_(_alerts.c.raised_ns < raised_ns, older))
        with self._reading() as tx:
            return [_alert_json.decode(body) for body in tx.execute(query).scalars()]

    def alert(self, ident: str) -> Alert:
        with self._reading() as tx:
            body = tx.execute(sql.select(_alerts.c.body).where(_alerts.c.id == ident)).scalar_one_or_none()
        if body is None:
            raise NotFound("alert", ident)
        return _alert_json.decode(body)

    def events(self, ident: str) -> list[AlertEvent]:
        query = sql.select(_events.c.body).where(_events.c.alert == ident).order_by(_events.c.number)
        with self._reading() as tx:
            found = [_event_json.decode(body) for body in tx.execute(query).scalars()]
        if not found:
            raise NotFound("alert", ident)
        return found

    def events_between(self, after: int, upto: int) -> list[BookedEvent]:
        query = (
            sql.select(_events.c.position, _events.c.body)
            .where(_events.c.position > after, _events.c.position <= upto)
            .order_by(_events.c.position, _events.c.place)
        )
        with self._reading() as tx:
            return [BookedEvent(position, _event_json.decode(body)) for position, body in tx.execute(query)]

    def counts(self) -> Mapping[tuple[Severity, AlertState], int]:
        """How many alerts are in each severity and state, resolved ones and the canary's left out: the
        ``vitalgate_alerts`` gauge."""
        query = (
            sql.select(_alerts.c.severity, _alerts.c.state, sql.func.count())
            .where(_alerts.c.state != str(AlertState.RESOLVED), _alerts.c.patient != CANARY_PATIENT)
            .group_by(_alerts.c.severity, _alerts.c.state)
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
        c = _limits.c
        query = (
            sql.select(c.version, c.position, c.set_ns, c.author, c.reason, c.body)
            .where(c.patient == patient)
            .order_by(c.version.desc())
            .limit(newest)
        )
        with self._reading() as tx:
            return [LimitsVersion(*row[:-1], limits=msgspec.json.decode(row[-1])) for row in tx.execute(query)]

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
            _alerts.c.patient == patient, _alerts.c.state == str(AlertState.RESOLVED), _alerts.c.raised_ns < before_ns
        )
        with self._transaction() as tx:
            tx.execute(_events.delete().where(_events.c.alert.in_(sql.select(_alerts.c.id).where(over))))
            return int(tx.execute(_alerts.delete().where(over)).rowcount)

    def save_snapshot(self, position: int, data: bytes) -> None:
        """Keep an engine snapshot; all but the newest two go."""
        with self._transaction() as tx:
            tx.execute(_snapshots.delete().where(_snapshots.c.position == position))
            tx.execute(_snapshots.insert().values(position=position, data=data))
            kept = tx.execute(
                sql.select(_snapshots.c.position).order_by(_snapshots.c.position.desc()).limit(KEPT_SNAPSHOTS)
            ).scalars()
            tx.execute(_snapshots.delete().where(_snapshots.c.position < min(kept)))

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        """(position, data) of the newest snapshot."""
        query = sql.select(_snapshots.c.position, _snapshots.c.data).order_by(_snapshots.c.position.desc()).limit(1)
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
    moved = tx.execute(_progress.update().where(_progress.c.position == expected).values(**values))
    if moved.rowcount != 1:
        found = tx.execute(sql.select(_progress.c.position)).scalar_one()
        raise PositionConflict(CONSUMER, expected, int(found))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _record_events(tx: Connection, events: Sequence[BookedEvent]) -> None:
    idents = [booked.event.id for booked in events]
    recorded = set(_chunked(idents, lambda some: _scalars(tx, _events.c.id, _events.c.id.in_(some))))
    rows: list[dict[str, Any]] = []
    by_alert: dict[str, list[BookedEvent]] = {}
    for position, group in groupby(events, key=lambda booked: booked.position):
        for place, booked in enumerate(group):
            event = booked.event
            if event.id not in recorded:
                by_alert.setdefault(event.alert, []).append(booked)
                rows.append({
                    "id": event.id, "alert": event.alert, "number": event.number, "position": position,
                    "place": place, "body": _json(event),
                })  # fmt: skip
    if not rows:
        return
    stored = _chunked(list(by_alert), lambda some: _scalars(tx, _alerts.c.body, _alerts.c.id.in_(some)))
    known = {alert.id: alert for alert in map(_alert_json.decode, stored)}
    fresh = []
    for ident, booked_of in by_alert.items():
        alert = known.get(ident)
        for booked in booked_of:
            alert = fold(alert, booked)
        assert alert is not None
        row = {
            "id": ident, "patient": alert.patient, "severity": int(alert.severity), "state": str(alert.state),
            "raised_ns": alert.raised_ns, "body": _json(alert),
        }  # fmt: skip
        if ident in known:
            tx.execute(_alerts.update().where(_alerts.c.id == ident).values(**row))
        else:
            fresh.append(row)
    if fresh:
        tx.execute(_alerts.insert(), fresh)
    tx.execute(_events.insert(), rows)


def _scalars(tx: Connection, column: Column[str], where: sql.ColumnElement[bool]) -> list[str]:
    return list(tx.execute(sql.select(column).where(where)).scalars())


def _chunked(idents: Sequence[str], ask: Callable[[Sequence[str]], list[str]], size: int = 500) -> Iterator[str]:
    """Ask in parts: databases bound the number of parameters of one statement."""
    for start in range(0, len(idents), size):
        yield from ask(idents[start : start + size])


def _record_limits(tx: Connection, position: int, control: Control) -> None:
    """Keep a version of limits by the engine's own rule: malformed or not new is ignored."""
    try:
        body, limits = read_limits(control)
    except InvalidRequest:
        return
    newest = tx.execute(
        sql.select(sql.func.max(_limits.c.version)).where(_limits.c.patient == body.patient)
    ).scalar_one()
    if newest is not None and body.version <= newest:
        return
    tx.execute(
        _limits.insert().values(
            patient=body.patient, version=body.version, position=position, set_ns=control.time_ns,
            author=control.author, reason=body.reason, body=_json([limit.model_dump() for limit in limits]),
        )
    )  # fmt: skip
