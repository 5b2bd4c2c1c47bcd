"""Records that cross the ports: what services hand to one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vitals.glossary import AlertState, EventKind, Reason, Severity


class LogRow(NamedTuple):
    """One entry of a log at its position; ``body`` is the wire form of ``vitals.encoding``."""

    position: int
    stream: str
    appended_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class NamedPatient:
    """The patient whom a message names. Any of its numbers may be the patient's record number; only a difference from
    all ``record_numbers`` and ``others`` makes it another patient. It stays in memory, and no text shows it."""

    record_numbers: tuple[str, ...] = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)


class DatedZone(NamedTuple):
    """The IANA time zone of a patient over ``from_ns <= time < to_ns`` (None = open)."""

    zone: str
    from_ns: int | None
    to_ns: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """A series of one vital of one patient, columns of equal length, by time.

    Raw windows have device, seq, basis and the code of the reported unit; aggregated ones have min, max and count, and
    ``value`` is the mean.
    """

    resolution: str
    time_ns: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint32]
    device: Sequence[str] = ()
    seq: Sequence[int] = ()
    basis: Sequence[int] = ()
    unit: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Trends:
    """Means of many series over equal slots of time, columns of equal length, by patient, vital and slot.

    A slot without a number has no row. ``vital`` are catalogue codes; ``slot`` counts from 0 at the asked start.
    """

    patient: Sequence[str]
    vital: npt.NDArray[np.uint16]
    slot: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the registry knows it. ``settings`` are its model quirks (adapter page); ``parent`` its hub."""

    id: str
    adapter: str
    hub: bool = False
    parent: str | None = None
    zone: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    revoked_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who wore a device over ``from_ns <= time < to_ns`` (None = open). ``zone`` is the one in force: the
    assignment's own, else the patient's, else None."""

    device: str
    patient: str
    from_ns: int | None = None
    to_ns: int | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """What streams may know of a patient; name, birth date and record number are in the vault."""

    id: str
    zone: str | None = None
    condition: str | None = None
    status: str = "active"
    created_ns: int = 0


class QuarantineItem(msgspec.Struct, frozen=True):
    """An undecodable message, or one with parts that could not be decoded. ``payload`` is empty in lists."""

    id: str
    device: str
    adapter: str
    adapter_version: int
    kind: str
    reason: Reason
    detail: str
    received_ns: int
    size: int
    payload: bytes = b""


class UnassignedItem(msgspec.Struct, frozen=True):
    """Readings of one message that cannot be given to a patient yet."""

    id: str
    device: str
    readings: int
    reason: str
    first_ns: int
    last_ns: int
    received_ns: int


class UnknownCode(msgspec.Struct, frozen=True):
    """A code that a device sends values under and that is no vital sign here, or, of kind ``code_conflict``, one whose
    number and name are two. ``samples`` are the newest numbers under it."""

    id: str
    device: str
    adapter: str
    kind: EventKind
    code: str
    count: int
    first_ns: int
    last_ns: int
    samples: tuple[float, ...]


class MessageLedger(msgspec.Struct, frozen=True):
    """received = decoded + duplicate + quarantined + in_flight, counted on both sides of the raw log."""

    received: int = 0
    decoded: int = 0
    duplicate: int = 0
    quarantined: int = 0
    in_flight: int = 0


class ReadingLedger(msgspec.Struct, frozen=True):
    """emitted = stored + duplicate + revision + unassigned + in_flight.

    ``stored``: readings that a patient ever had; ``revision``: later versions of readings that are known, withdrawals
    among them, and versions that were superseded while they waited; ``unassigned``: those that wait and were discarded.
    """

    emitted: int = 0
    stored: int = 0
    duplicate: int = 0
    revision: int = 0
    unassigned: int = 0
    in_flight: int = 0


class Ledger(msgspec.Struct, frozen=True):
    """Both ledgers of one device, or of all (device ``*``)."""

    device: str
    messages: MessageLedger
    readings: ReadingLedger


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """Both ledgers summed over devices, as the ledger of device ``*``."""
    messages = MessageLedger(
        *(sum(getattr(item.messages, name) for item in ledgers) for name in MessageLedger.__struct_fields__)
    )
    readings = ReadingLedger(
        *(sum(getattr(item.readings, name) for item in ledgers) for name in ReadingLedger.__struct_fields__)
    )
    return Ledger("*", messages, readings)


class AlertEvent(msgspec.Struct, frozen=True):
    """One transition of an alert, as the engine derives it from the log.

    ``id`` is stable across restarts and replays: hash of alert, number and kind. ``number`` counts the alert's events
    from 0. ``values`` are ``{"vital","value","unit","time_ns","flags"}`` of the readings behind it. ``incident`` groups
    the alerts of one patient and cause. ``page`` says whether the event interrupts a person now, ``role`` whom, at step
    ``level`` of the ladder; ``due_ns`` is when the next step comes. ``resolves`` says what ends the alert.
    """

    id: str
    alert: str
    number: int
    kind: str
    at_ns: int
    patient: str
    rule: str
    rule_version: int
    severity: Severity
    state: AlertState
    values: tuple[dict[str, Any], ...] = ()
    limit: dict[str, Any] = msgspec.field(default_factory=dict)
    quality: tuple[str, ...] = ()
    text: str = ""
    author: str = ""
    note: str = ""
    incident: str = ""
    page: bool = True
    level: int = 0
    role: str = ""
    due_ns: int | None = None
    resolves: str = ""


class Alert(msgspec.Struct, frozen=True):
    """An alert as its events add up. ``position`` is the log position of the last one."""

    id: str
    patient: str
    rule: str
    rule_version: int
    severity: Severity
    state: AlertState
    raised_ns: int
    updated_ns: int
    position: int
    values: tuple[dict[str, Any], ...] = ()
    limit: dict[str, Any] = msgspec.field(default_factory=dict)
    quality: tuple[str, ...] = ()
    text: str = ""
    owner: str = ""
    incident: str = ""
    level: int = 0
    role: str = ""
    due_ns: int | None = None
    resolves: str = ""
    page: bool = True


class Decision(msgspec.Struct, frozen=True):
    """One version of what a person decided: of a programme, of a patient's enrolment or clinical context.

    ``subject`` is the programme or the patient, ``body`` that of the control entry.
    """

    subject: str
    version: int
    position: int
    set_ns: int
    author: str
    reason: str
    body: dict[str, Any]


class LimitsVersion(msgspec.Struct, frozen=True):
    """One version of a patient's limits, in force from ``set_ns`` on: who set it, when, why. ``limits`` is as
    :meth:`vitals.ports.AlertDecisions.limits` gives them."""

    version: int
    position: int
    set_ns: int
    author: str
    reason: str
    limits: list[dict[str, Any]]


class StatusDecision(msgspec.Struct, frozen=True):
    """A monitoring status that a person gave a patient; ``check_ns`` is when to ask whether to resume."""

    patient: str
    position: int
    set_ns: int
    author: str
    status: str
    from_ns: int
    check_ns: int | None


class BookedEvent(NamedTuple):
    """An event with the log position of the entry that caused it."""

    position: int
    event: AlertEvent
