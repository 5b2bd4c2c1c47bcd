"""Records of the alert book: its tables, alerts as sums of their events, and decisions as versions.

A decision is recorded by the engine's own rule: what is malformed, or not newer than what is in force, is ignored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

import msgspec
import sqlalchemy as sql
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, UniqueConstraint
from sqlalchemy.engine import Connection

from alerts.programmes.bodies import read_status
from alerts.programmes.controls import read_limits
from alerts.programmes.decisions import read_decision
from vitals.errors import InvalidRequest
from vitals.glossary import INTERRUPTING, TELLING, AlertState, ControlKind
from vitals.model import Control
from vitals.records import Alert, AlertEvent, BookedEvent

METADATA = sql.MetaData()
PROGRESS = Table(
    "alert_progress", METADATA,
    Column("consumer", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("evaluated_to_ns", BigInteger, nullable=False),
)  # fmt: skip
ALERTS = Table(
    "alerts", METADATA,
    Column("id", String(40), primary_key=True),
    Column("patient", String(64), nullable=False, index=True),
    Column("severity", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("raised_ns", BigInteger, nullable=False, index=True),
    Column("body", Text, nullable=False),
)  # fmt: skip
EVENTS = Table(
    "alert_events", METADATA,
    Column("id", String(40), primary_key=True),
    Column("alert", String(40), ForeignKey("alerts.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("alert", "number"),
    UniqueConstraint("position", "place"),
)  # fmt: skip
LIMITS = Table(
    "patient_limits", METADATA,
    Column("patient", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("set_ns", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip


def _versions(name: str) -> Table:
    """A table of versions of what people decided of a subject: a programme or a patient."""
    return Table(
        name, METADATA,
        Column("subject", String(64), primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("position", BigInteger, nullable=False),
        Column("set_ns", BigInteger, nullable=False),
        Column("author", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("body", Text, nullable=False),
    )  # fmt: skip


DECISIONS: Final[Mapping[ControlKind, Table]] = MappingProxyType(
    {
        ControlKind.PROGRAMME: _versions("programme_versions"),
        ControlKind.ENROLMENT: _versions("patient_enrolments"),
        ControlKind.CONTEXT: _versions("patient_contexts"),
    }
)
"""Where the versions of each kind of decision are."""
STATUSES = Table(
    "patient_statuses", METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("patient", String(64), nullable=False, index=True),
    Column("set_ns", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip
INCIDENTS = Table(
    "alert_incidents", METADATA,
    Column("alert", String(40), ForeignKey("alerts.id"), primary_key=True),
    Column("incident", String(40), nullable=False, index=True),
)  # fmt: skip
DERIVED = Table(
    "derived_readings", METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)  # fmt: skip
"""Scores that wait to be put into the vitals log."""
SNAPSHOTS = Table(
    "alert_snapshots", METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)  # fmt: skip

_STANDING = frozenset({"stale", "chattering"})
"""Words of quality about the alert, not about a reading."""
event_json = msgspec.json.Decoder(AlertEvent)
alert_json = msgspec.json.Decoder(Alert)


def fold(alert: Alert | None, booked: BookedEvent) -> Alert:
    """The alert after one more event.

    Values, limit, quality and text are those of the last event that told a person to look, but for what quality says
    of the alert itself (stale, chattering): each event does. Whether it interrupts is what the last event says that
    may. The owner is whoever acknowledged last. Step and role of the ladder, and when the next step is due, are those
    of the last event that names a role; nobody is due once it is over.
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
    # A step of the ladder says nothing new about the readings.
    if event.kind in TELLING and (event.values or not alert.values):
        changes |= {"values": event.values, "limit": event.limit, "quality": event.quality, "text": event.text}
    quality = changes.get("quality", alert.quality)
    changes["quality"] = (
        *(word for word in quality if word not in _STANDING), *(word for word in event.quality if word in _STANDING),
    )  # fmt: skip
    if event.kind in INTERRUPTING:
        changes["page"] = event.page
    if event.kind == "acknowledged":
        changes["owner"] = event.author
    if event.role:
        changes |= {"role": event.role, "level": event.level, "due_ns": event.due_ns}
    if event.state is AlertState.RESOLVED:
        changes["due_ns"] = None
    changes |= {name: word for name in ("incident", "resolves") if (word := getattr(event, name))}
    return msgspec.structs.replace(alert, **changes)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def record_events(tx: Connection, events: Sequence[BookedEvent]) -> None:
    """Record events that are not recorded yet, and what they add up to."""
    idents = [booked.event.id for booked in events]
    recorded = set(_chunked(idents, lambda some: _scalars(tx, EVENTS.c.id, EVENTS.c.id.in_(some))))
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
    stored = _chunked(list(by_alert), lambda some: _scalars(tx, ALERTS.c.body, ALERTS.c.id.in_(some)))
    known = {alert.id: alert for alert in map(alert_json.decode, stored)}
    fresh, grouped = [], []
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
            tx.execute(ALERTS.update().where(ALERTS.c.id == ident).values(**row))
        else:
            fresh.append(row)
            if alert.incident:
                grouped.append({"alert": ident, "incident": alert.incident})
    if fresh:
        tx.execute(ALERTS.insert(), fresh)
    if grouped:
        tx.execute(INCIDENTS.insert(), grouped)
    tx.execute(EVENTS.insert(), rows)


def _scalars(tx: Connection, column: Column[str], where: sql.ColumnElement[bool]) -> list[str]:
    return list(tx.execute(sql.select(column).where(where)).scalars())


def _chunked(idents: Sequence[str], ask: Callable[[Sequence[str]], list[str]], size: int = 500) -> Iterator[str]:
    """Ask in parts: databases bound the number of parameters of one statement."""
    for start in range(0, len(idents), size):
        yield from ask(idents[start : start + size])


def record_decision(tx: Connection, position: int, control: Control) -> None:
    """Keep what a control decided: limits, a programme, an enrolment, a clinical context or a status."""
    if control.kind is ControlKind.LIMITS:
        _record_limits(tx, position, control)
    elif control.kind is ControlKind.STATUS:
        _record_status(tx, position, control)
    elif control.kind in DECISIONS:
        _record_version(tx, position, control)


def _record_version(tx: Connection, position: int, control: Control) -> None:
    table = DECISIONS[control.kind]
    try:
        subject, version, reason = read_decision(control)
    except InvalidRequest:
        return
    newest = tx.execute(sql.select(sql.func.max(table.c.version)).where(table.c.subject == subject)).scalar_one()
    if newest is not None and version <= newest:
        return
    tx.execute(
        table.insert().values(
            subject=subject, version=version, position=position, set_ns=control.time_ns, author=control.author,
            reason=reason, body=_json(control.body),
        )
    )  # fmt: skip


def _record_status(tx: Connection, position: int, control: Control) -> None:
    try:
        body = read_status(control.body)
    except InvalidRequest:
        return
    tx.execute(
        STATUSES.insert().values(
            position=position, patient=body.patient, set_ns=control.time_ns, author=control.author,
            body=_json(control.body),
        )
    )  # fmt: skip


def _record_limits(tx: Connection, position: int, control: Control) -> None:
    """Keep a version of limits by the engine's own rule: malformed or not new is ignored."""
    try:
        body, limits = read_limits(control)
    except InvalidRequest:
        return
    newest = tx.execute(sql.select(sql.func.max(LIMITS.c.version)).where(LIMITS.c.patient == body.patient)).scalar_one()
    if newest is not None and body.version <= newest:
        return
    tx.execute(
        LIMITS.insert().values(
            patient=body.patient, version=body.version, position=position, set_ns=control.time_ns,
            author=control.author, reason=body.reason, body=_json([limit.model_dump() for limit in limits]),
        )
    )  # fmt: skip
