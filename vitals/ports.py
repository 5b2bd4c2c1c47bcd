"""Ports: what services need from one another, as Protocols. The records that cross them are in ``vitals.records``.

Concrete backends are named in ``deploy/wiring.py`` only. Every backend of a port passes the port's contract suite
under ``tests/contracts``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from vitals.device_state import AheadState, DeviceState, Processed, ToldEvent
from vitals.glossary import AlertState, Severity
from vitals.model import Control, VitalBatch
from vitals.records import (
    Alert,
    AlertEvent,
    Assignment,
    BookedEvent,
    DatedZone,
    Decision,
    Device,
    Ledger,
    LimitsVersion,
    LogRow,
    NamedPatient,
    Patient,
    QuarantineItem,
    StatusDecision,
    Trends,
    UnassignedItem,
    UnknownCode,
    Window,
)


class Clock(Protocol):
    """Wall time; tests pass a fake."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""


class Sealer(Protocol):
    """Authenticated encryption of the zones at rest."""

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt ``plain``, bound to ``context``."""

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The inverse; raises ``VaultError`` when key, context or bytes do not match."""


class Log(Protocol):
    """An append-only log of entries in named streams with one global order of positions (from 1)."""

    def append(self, entries: Sequence[tuple[str, bytes]]) -> list[int]:
        """Append (stream, body) pairs in one transaction; durable on return. Positions in order. Raises a retryable
        ``BackendError`` when the disk is full or busy; nothing was appended then."""

    def read(self, after: int, *, streams: Collection[str] | None = None, limit: int = 256) -> list[LogRow]:
        """Up to ``limit`` rows with position > ``after`` in order, of all or the named streams."""

    def end(self) -> int:
        """The last position, 0 when nothing was ever appended."""

    def wait(self, after: int, timeout_s: float) -> int:
        """Block until ``end() > after`` or the time is over; returns ``end()``."""

    def position(self, consumer: str) -> int:
        """Where ``consumer`` stands; 0 when it never committed."""

    def commit(self, consumer: str, expected: int, new: int) -> None:
        """Move a consumer by compare-and-set; raises ``PositionConflict``."""

    def trim(self, before_ns: int) -> int:
        """Delete entries appended before ``before_ns`` that every registered consumer has passed; returns how many."""

    def close(self) -> None:
        """Release files."""


class Store(Protocol):
    """Vital-sign streams at rest. Duplicates never reach it; readers see the newest revision."""

    def position(self) -> int:
        """Log position up to which everything is stored."""

    def write(self, batches: Sequence[VitalBatch], *, expected: int, position: int) -> None:
        """Store batches and move the position in one transaction; raises ``PositionConflict``. A row with ``REVISION``
        hides what was stored of its identity, whoever had it; with ``RETRACTED`` as well it hides itself too."""

    def window(
        self, patient: str, vital: int, start_ns: int, end_ns: int, *, resolution: str = "raw", limit: int = 100_000,
        zones: Sequence[DatedZone] = (),
    ) -> Window:  # fmt: skip
        """Readings with ``start_ns <= time < end_ns``; ``resolution`` is raw, 1m, 1h or 1d. Days are those of
        ``zones``, by time (``vitals.days``). A bucket is named by its start, which may lie before ``start_ns``.

        Aggregates leave out implausible, control-solution, test and retracted readings. Values without a number are in
        ``count`` and ``flags`` when they are beyond the sensor's range, and else left out; a bucket of nothing else has
        not-a-number. At most ``limit`` rows, the oldest first.
        """

    def latest(self, patient: str) -> VitalBatch:
        """The newest reading of each vital of the patient that is not implausible, retracted, control or test data: one
        for each trust of ``vitals.currency.trust_of`` that it has, in the order of vital and trust."""

    def latest_many(self, patients: Collection[str]) -> VitalBatch:
        """``latest`` of each of the patients, in one query."""

    def trends(self, patients: Collection[str], start_ns: int, end_ns: int, width_ns: int) -> Trends:
        """Each vital of the patients over ``start_ns <= time < end_ns`` in slots of ``width_ns``, in one query. Leaves
        out what aggregates of ``window`` leave out, and values without a number."""

    def held(self, device: str, start_ns: int, end_ns: int) -> VitalBatch:
        """Visible readings of a device, of every patient, with ``start_ns <= time < end_ns`` or of unknown time, in
        order of arrival."""

    def sent(self, device: str, first_ns: int, last_ns: int) -> VitalBatch:
        """Visible readings of a device by the time as sent, ``first_ns <= source time <= last_ns``, likewise."""

    def stored(self) -> Mapping[str, int]:
        """First versions of readings stored, per device (the ledger's ``stored``)."""

    def rows(self) -> int:
        """All rows, revisions included."""

    def retract(self, device: str, vital: int, source_time_ns: int, seq: int) -> None:
        """Hide a reading from readers; its rows stay."""

    def erase(self, patient: str) -> int:
        """Delete every row of a patient; returns how many."""

    def export(self, patient: str) -> VitalBatch:
        """All rows of a patient by vital and time, for portability."""

    def arrivals(
        self, patients: Collection[str], start_ns: int, end_ns: int, *, measured: bool = False
    ) -> Iterator[VitalBatch]:
        """Every row of the patients with ``start_ns <= receipt < end_ns``, revisions and withdrawals included, in
        order of receipt, then message; in batches of bounded size that end between two minutes. With ``measured`` by
        measurement time instead: the visible version of each reading, in order of time."""

    def close(self) -> None:
        """Checkpoint and release the file."""


class DeviceRegistry(Protocol):
    """What the gateway asks of the registry: which devices there are and whose secret this is."""

    def version(self) -> int:
        """Changes with every write by any process: the key of a reader's cache."""

    def device(self, device: str) -> Device:
        """Raises ``NotFound``."""

    def devices(self) -> list[Device]:
        """By creation."""

    def authenticate(self, device: str, secret: bytes) -> bool:
        """Whether the device exists, is not revoked, and this is its secret."""


class Registry(DeviceRegistry, Protocol):
    """Patients (tokens), devices, credentials, and assignments over time."""

    def add_patient(self, *, zone: str | None = None, condition: str | None = None) -> Patient:
        """A new patient with a random token ``p_...``."""

    def update_patient(self, patient: str, *, zone: str | None = None, condition: str | None = None) -> Patient:
        """Change the given members; raises ``NotFound``."""

    def set_status(self, patient: str, status: str, from_ns: int) -> Patient:
        """active, paused, hospitalised or discharged, from a time on."""

    def patient(self, patient: str) -> Patient:
        """Raises ``NotFound``."""

    def patients(self) -> list[Patient]:
        """By creation."""

    def enrol(
        self, adapter: str, *, device: str | None = None, hub: bool = False, parent: str | None = None,
        zone: str | None = None, settings: Mapping[str, str] | None = None,
    ) -> tuple[Device, str]:  # fmt: skip
        """A new device and its secret, which is shown once and kept as a salted hash.

        Raises ``InvalidRequest`` for an id that is taken or not fit for a topic.
        """

    def rotate(self, device: str, *, overlap_s: int = 0) -> str:
        """A new secret; the old one works for ``overlap_s`` more seconds. Raises ``NotFound``, ``InvalidRequest``."""

    def configure(self, device: str, settings: Mapping[str, str | None]) -> Device:
        """Change the named settings; None removes one. Raises ``NotFound``."""

    def revoke(self, device: str) -> Device:
        """The device may not connect any more. Raises ``NotFound``."""

    def assign(
        self, device: str, patient: str, *, from_ns: int | None, to_ns: int | None, zone: str | None = None,
        replace: bool = False,
    ) -> Assignment:  # fmt: skip
        """Record who wears the device; ends an open assignment at ``from_ns``. On overlap raises ``InvalidRequest``, or
        with ``replace`` takes the time out of what was said of it before."""

    def assignments(self, *, device: str | None = None, patient: str | None = None) -> list[Assignment]:
        """By time."""


class PatientCheck(Protocol):
    """Compares the patient whom a message names with a patient token; identities stay behind it."""

    def kept(self, named: NamedPatient) -> str:
        """What may be kept of ``named``: keyed digests of its numbers; empty where it has no record number."""

    def contradicts(self, patient: str, named: NamedPatient | str) -> bool:
        """Whether ``named``, or what was kept of it, is certainly somebody else."""


class IngestView(Protocol):
    """What people ask of ingest."""

    def quarantine(self, *, after: str = "", limit: int = 100) -> list[QuarantineItem]:
        """Open items by id, without payloads."""

    def quarantine_item(self, ident: str) -> QuarantineItem:
        """One item with its payload; raises ``NotFound``."""

    def replay(
        self, *, ident: str | None = None, reason: str | None = None, adapter: str | None = None
    ) -> dict[str, int]:
        """Decode open items again with the current adapters; counts per outcome: decoded, duplicate, quarantined."""

    def unknown_codes(self, *, device: str | None = None, after: str = "", limit: int = 100) -> list[UnknownCode]:
        """Codes that are no vital sign here, by id; of one device when it is given."""

    def unassigned(self, *, after: str = "", limit: int = 100) -> list[UnassignedItem]:
        """Readings that wait for a wearer, by id."""

    def unassigned_item(self, ident: str) -> tuple[UnassignedItem, VitalBatch]:
        """One that waits, with its readings; raises ``NotFound``."""

    def assign_unassigned(self, ident: str, patient: str, *, author: str, shift_s: float | None = None) -> int:
        """Give readings that wait to a patient, as history; how many were stored.

        ``shift_s`` is what is added to the time as sent (wall time read as UTC) to get UTC; without it, times that
        mean nothing stay unknown. Raises ``NotFound`` for item or patient, ``InvalidRequest`` for a shift that leads
        past the receipt.
        """

    def discard_unassigned(self, ident: str, reason: str, *, author: str) -> int:
        """Give up readings that wait: they stay counted as unassigned. How many; raises ``NotFound``."""

    def settle(self, author: str) -> None:
        """Move readings to the patients who wore their device by the present assignments."""

    def ledger(self, device: str) -> Ledger:
        """Both ledgers of a device; zeros for a device that never sent anything."""

    def ledgers(self) -> list[Ledger]:
        """Of every device that ever sent anything, but for the canary."""

    def device_state(self, device: str) -> DeviceState:
        """Last contact, presence, battery, faults."""

    def device_clock(self, device: str) -> AheadState:
        """How far a device's clock is ahead, as it was learned from arrivals."""

    def undo_clock(self, device: str, reason: str, *, author: str) -> AheadState:
        """Readings of the device are no longer corrected by what was learned; nothing is learned anew until a message
        with a right clock came. Raises ``InvalidRequest`` when nothing was learned."""

    def device_events(self, device: str, *, after: str = "", limit: int = 100) -> list[ToldEvent]:
        """What happened to a device, newest first; ``after`` is the id that the page before ended with."""

    def processed(self) -> Processed:
        """How far ingest got."""


class AlertReader(Protocol):
    """Alerts and their events at rest, and how far the engine got."""

    def position(self) -> int:
        """Log position up to which the engine's output is recorded."""

    def wait(self, position: int, timeout_s: float) -> bool:
        """Block until ``position() >= position``; False when the time is over first."""

    def evaluated_to_ns(self) -> int:
        """Watermark of the last tick that was applied; 0 before the first."""

    def alerts(
        self, *, states: Collection[AlertState] = (), severity: Severity | None = None, patient: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[Alert]:  # fmt: skip
        """Newest first; ``after`` is the id that the page before ended with, ``NotFound`` when there is none such. The
        canary's alerts are left out unless ``patient`` names it."""

    def alert(self, ident: str) -> Alert:
        """Raises ``NotFound``."""

    def alert_after(self, ident: str, number: int) -> Alert:
        """The alert as its event ``number`` left it; raises ``NotFound``."""

    def incident(self, ident: str) -> list[Alert]:
        """The alerts of an incident, the first raised first."""

    def events(self, ident: str) -> list[AlertEvent]:
        """Of one alert, in order; raises ``NotFound``."""

    def events_between(self, after: int, upto: int) -> list[BookedEvent]:
        """Events with ``after < position <= upto`` in order."""


class AlertDecisions(Protocol):
    """What people decided about limits, programmes and patients, in every version."""

    def limits(self, patient: str) -> tuple[int, list[dict[str, Any]]]:
        """(version, limits) in force; (0, []) when none were ever set."""

    def limits_history(self, patient: str) -> Sequence[LimitsVersion]:
        """Every version of a patient's limits, the newest first."""

    def programmes(self) -> list[Decision]:
        """The newest version of every programme, by id."""

    def programme_history(self, ident: str) -> list[Decision]:
        """Every version of a programme, the newest first; raises ``NotFound``."""

    def enrolments(self) -> list[Decision]:
        """The enrolment in force of every patient who was ever enrolled, by patient."""

    def enrolment(self, patient: str) -> Decision | None:
        """The programmes and overrides of a patient; None when never enrolled."""

    def enrolment_history(self, patient: str) -> list[Decision]:
        """Every version, the newest first."""

    def contexts(self) -> list[Decision]:
        """The clinical context in force of every patient who ever had one, by patient."""

    def context(self, patient: str) -> Decision | None:
        """The clinical context of a patient; None when never set."""

    def context_history(self, patient: str) -> list[Decision]:
        """Every version, the newest first."""

    def statuses(self, patient: str) -> list[StatusDecision]:
        """What people said of a patient's status, the newest first."""


class AlertRecorder(Protocol):
    """How the engine's output is recorded: every event once, with the engine's position in the same transaction."""

    def position(self) -> int:
        """Log position up to which the engine's output is recorded."""

    def apply(
        self, events: Sequence[BookedEvent], controls: Sequence[tuple[int, Control]], *, expected: int, position: int,
        evaluated_to_ns: int | None = None, derived: Sequence[tuple[int, bytes]] = (),
    ) -> None:  # fmt: skip
        """Record events, what people decided, the last tick and derived readings (position of the entry, encoded);
        move the position. Raises ``PositionConflict``."""

    def derived(self, after: int, limit: int) -> tuple[int, list[bytes]]:
        """Readings that entries after ``after`` made, in order, and the position that they complete."""

    def forget_derived(self, upto: int) -> None:
        """What entries up to ``upto`` made is published."""

    def save_snapshot(self, position: int, data: bytes) -> None:
        """Keep an engine snapshot."""

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        """(position, data) of the newest snapshot."""


class Controls(Protocol):
    """The way a person's decision enters the log. Every method waits until the engine has applied it.

    Each raises ``BackendError`` (retryable) when the engine does not get there in time, with the entry in the log;
    ``InvalidRequest`` and ``NotFound`` before it enters the log.
    """

    def submit(self, control: Control) -> int:
        """Append a control entry; returns its position."""

    def revise(self, control: Control, version: int | None = None) -> int:
        """Make a version of limits, of a programme, of an enrolment or of a clinical context; returns its number.

        ``control.body`` has no ``version``: it is the next one, or ``version`` when the caller names it. Raises
        ``InvalidRequest`` (field ``version``) when that number is not new any more: of simultaneous changes with the
        same ``version`` one is accepted.
        """

    def set_status(self, control: Control) -> Patient:
        """Change the monitoring status of a patient in the registry and in the log; the patient afterwards.

        The registry changes first: it refuses what is wrong. After a failure, asking again makes both records agree.
        """
