"""One adapter's micro-batch through the stages: decode, convert, clock, attribute, flag, identify.

Each stage is columns in, columns out; the loops here run over adapters, devices and units, never over readings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ingest import alarms, doubts, history, quality, quarantine
from ingest.adapter import Adapter, Columns, Context, Decoded, Reject, SourceClock
from ingest.alarms import OwnedAlarm
from ingest.clock_evidence import arrivals, clock_faults
from ingest.decoding import decode
from ingest.journal.identities import Held
from ingest.journal.recognition import Origins, Recognised
from ingest.journal.tally import Tally
from ingest.journal.worklist import Waiting
from ingest.placing import clocks, local, repeated
from ingest.placing.ahead import AheadClock, taught
from ingest.placing.attribution import AFTER_KEY, REASONS, Placed, place
from ingest.placing.currency import Settled, settle
from ingest.placing.epochs import DeviceClock, Epoch, arrival_ns
from ingest.placing.named import other_patients, withhold
from ingest.placing.wear import Head, WearTable
from vitals.currency import OF_INTERVALS
from vitals.glossary import Basis, Flag
from vitals.model import UNASSIGNED, DeviceEvent, Message, Provenance, VitalBatch
from vitals.ports import PatientCheck
from vitals.times import NO_TIME

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Lesson:
    """What a micro-batch taught about a device's clock: the clock as it is known now, odd records (sequence, time as
    sent, arrival), new epochs, and whether earlier readings have a time now."""

    clock: DeviceClock
    odd: list[tuple[int, int, int]] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    others: bool = False


@dataclass(slots=True)
class Outcome:
    """What a micro-batch adds to the cycle; ``heads`` and ``clocks`` are for the next micro-batch's ``WearTable``."""

    batches: list[VitalBatch] = field(default_factory=list)
    events: list[DeviceEvent] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    withdrawn: list[VitalBatch] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    unknown_members: int = 0
    left_out: int = 0
    heads: dict[str, Head] = field(default_factory=dict)
    clocks: dict[str, Lesson] = field(default_factory=dict)
    ahead: dict[str, AheadClock] = field(default_factory=dict)
    alarms: list[OwnedAlarm] = field(default_factory=list)
    received_ns: dict[int, int] = field(default_factory=dict)
    """Ordinal and receipt of each message that told events and is no history."""
    other_patients: dict[str, int] = field(default_factory=dict)
    """Devices whose live messages name another patient than their wearer, with the first receipt."""
    assigned: set[str] = field(default_factory=set)
    """Devices with readings that wait although somebody wears them now."""
    known: list[tuple[VitalBatch, Bools]] = field(default_factory=list)
    """Every reading, stored or waiting, and which are no duplicates: what they say of their devices."""


class KnownReadings(Protocol):
    """The known readings, in the transaction of the cycle: a reading is recorded as it is recognised.
    ``ingest.journal.recognition`` documents the methods."""

    def device_id(self, token: str) -> int: ...

    def identify(
        self, device: Int64, vital: npt.NDArray[np.uint16], source_time_ns: Int64, seq: Int64, received_ns: Int64,
        value: npt.NDArray[np.float64], flags: npt.NDArray[np.uint32], origins: Origins,
    ) -> Recognised: ...  # fmt: skip

    def withdraw(self, device: Int64, batch: VitalBatch, document: Int64) -> tuple[Bools, VitalBatch]: ...

    def withdrawn(self, device: Int64, batch: VitalBatch) -> Bools: ...


def run(
    adapter: Adapter | None,
    messages: Sequence[Message],
    contexts: Mapping[str, Context],
    worn: WearTable,
    identities: KnownReadings,
    *,
    provenance: Provenance,
    extra: Flag = Flag(0),
    patients: PatientCheck | None = None,
) -> Outcome:
    """Take one adapter's messages to stored-to-be readings, quarantine and ledgers.

    ``extra`` flags go on every reading (``REPLAYED``). ``patients`` tells whether a message names another patient than
    the wearer of its device; without it nothing is compared. Nothing of the arguments changes but the transaction
    behind ``identities``; the caller tells ``worn`` what was learned (``WearTable.learn``, ``WearTable.trust``).
    """
    out = Outcome()
    good = _admit(adapter, messages, out)
    if adapter is None or not good:
        return out
    told = [contexts.get(message.device, Context()) for message in good]
    decoded = decode(adapter, [history.plain(message) for message in good], told)
    rejected = _reject(adapter, good, decoded.rejects, out)
    out.alarms = alarms.owned(decoded.alarms, good, worn, patients)
    columns, senders = doubts.reread(decoded.batch), _senders(good, adapter.polled)
    emits, fresh = np.zeros(len(good), bool), np.zeros(len(good), bool)
    if len(columns):
        live = _live(adapter, good, extra)
        batch, settled = _normalise(columns, good, senders, worn, extra, live)
        placed = settled.placed
        if placed.odd.any() and _learn(batch, placed, worn, out):
            # What proves a shift is corrected by it, whatever batch it comes in.
            learned = {device: lesson.clock for device, lesson in out.clocks.items()}
            batch, settled = _normalise(columns, good, senders, worn.with_clocks(learned), extra, live)
            placed = settled.placed
        batch = withhold(batch, placed, decoded.named, patients)
        origins = Origins.of(decoded, batch.message, placed.hour == repeated.Pass.UNSURE, repeated.again(columns))
        new = _identify(batch, placed, origins, identities, out, provenance)
        out.known.append((batch, new))
        out.heads = _heads(batch, placed.trusted)
        out.tally.add_rows(senders.tokens, "emitted", batch.device)
        emits[columns.message] = True
        fresh[columns.message[new]] = True
        out.events.extend(doubts.events(batch, new))
        out.other_patients = other_patients(batch, placed, new & ~history.marked(good)[columns.message])
        out.events.extend(clock_faults(settled, good, fresh & ~history.marked(good)))
        out.ahead = taught(worn.ahead, arrivals(batch, columns, settled, good, fresh & live, worn))
    _conclude(decoded, good, senders, rejected, emits, fresh, worn, out)
    return out


def _conclude(
    decoded: Decoded, messages: list[Message], senders: "_Senders", rejected: Bools, emits: Bools, fresh: Bools,
    worn: WearTable, out: Outcome,
) -> None:  # fmt: skip
    """Count messages, and pass on what adapters told. ``emits``: messages with readings, ``fresh``: with new ones."""
    now_ns = max(message.received_ns for message in messages)
    out.assigned = {waiting.device for waiting in out.waiting if worn.wearer(waiting.device, now_ns)}
    out.unknown_members, out.left_out = decoded.unknown_members, decoded.left_out
    again = emits & ~fresh
    for what, which in (("duplicate", again & ~rejected), ("decoded", ~again & ~rejected)):
        out.tally.add_rows(senders.tokens, what, senders.of_message[which])
    if out.events or decoded.events:
        past = history.marked(messages).tolist()
        out.received_ns = {
            one.ordinal: one.received_ns for one, is_past in zip(messages, past, strict=True) if not is_past
        }
    # What came beside readings that are known already was told before: a resync does not drain a battery again.
    old = {messages[number].ordinal for number in np.flatnonzero(again)} if decoded.events else set()
    out.events.extend(event for event in decoded.events if event.message not in old)


def _live(adapter: Adapter, messages: Sequence[Message], extra: Flag) -> Bools:
    """Messages that their devices sent as they measured."""
    fresh = not extra & Flag.REPLAYED
    sent = np.array([fresh and message.kind not in adapter.stored_kinds for message in messages], np.bool_)
    return np.asarray(sent & ~history.marked(messages))


@dataclass(frozen=True, slots=True)
class _Senders:
    """The devices of a micro-batch, which of them sent each message, and whether they are asked through a service."""

    tokens: tuple[str, ...]
    of_message: npt.NDArray[np.int32]
    polled: bool


def _senders(messages: Sequence[Message], polled: bool) -> _Senders:
    numbers: dict[str, int] = {}
    of_message = [numbers.setdefault(message.device, len(numbers)) for message in messages]
    return _Senders(tuple(numbers), np.array(of_message, np.int32), polled)


def _admit(adapter: Adapter | None, messages: Sequence[Message], out: Outcome) -> list[Message]:
    """Messages that the adapter gets: not transport resends, not refused."""
    good = []
    for message in messages:
        if message.resend_of >= 0:
            out.tally.add(message.device, "duplicate")
            continue
        refused = quarantine.refusal(message, adapter)
        if refused is None:
            good.append(message)
            continue
        version = 0 if adapter is None else adapter.version
        out.held.append(quarantine.held(message, version, Reject(0, *refused)))
        out.tally.add(message.device, "quarantined")
    return good


def _reject(adapter: Adapter, messages: list[Message], rejects: Sequence[Reject], out: Outcome) -> Bools:
    """Quarantine each message with a reject once, under its first; which messages those are."""
    rejected = np.zeros(len(messages), bool)
    for reject in rejects:
        if not rejected[reject.message]:
            rejected[reject.message] = True
            message = messages[reject.message]
            out.held.append(quarantine.held(message, adapter.version, reject))
            out.tally.add(message.device, "quarantined")
    return rejected


def _normalise(
    columns: Columns, messages: list[Message], senders: _Senders, worn: WearTable, extra: Flag, live: Bools
) -> tuple[VitalBatch, Settled]:
    received = np.array([message.received_ns for message in messages], np.int64)[columns.message]
    ordinal = np.array([message.ordinal for message in messages], np.int64)[columns.message]
    resent = np.array([message.dup for message in messages], np.bool_)[columns.message]
    device = senders.of_message[columns.message]
    row_in_table = np.array([worn.row(token) for token in senders.tokens], np.int64)[device]
    shown = clocks.shown(columns.source_time_ns, columns.context)
    settled = settle(
        columns, place(columns, shown, row_in_table, received, worn), row_in_table, received, worn,
        live[columns.message], worn.ahead_ns(senders.tokens)[device],
    )  # fmt: skip
    placed = settled.placed
    placed.hour[(placed.hour == repeated.Pass.NONE) & repeated.again(columns)] = repeated.Pass.UNSURE
    value = doubts.convert(columns.vital, columns.unit, columns.value)
    flags = columns.flags | placed.flags | np.uint32(extra)
    flags[settled.now] &= ~np.uint32(Flag.CLOCK_SUSPECT)
    flags[settled.now] |= quality.wrong_clock_flags(columns.vital, value, columns.flags)[settled.now]
    ended = clocks.ends(columns.ended_ns - columns.source_time_ns, placed.time_ns, columns.ended_ns)
    ahead = ended > received + clocks.FUTURE_TOLERANCE_NS
    # Nothing goes on after it arrived; a time far ahead would make all that follows look old.
    ended[ahead] = np.maximum(placed.time_ns, received)[ahead]
    flags[ahead] |= np.uint32(Flag.CLOCK_SUSPECT)
    corrected = (placed.flags & np.uint32(Flag.CLOCK_CORRECTED)) != 0
    flags[corrected] &= ~np.uint32(Flag.CLOCK_SUSPECT)
    measured = np.where((ended == NO_TIME) | np.isin(columns.statistic, OF_INTERVALS), placed.time_ns, ended)
    # A value with a coded side carries its meaning in the flag, whatever number came with it.
    flags = flags | quality.range_flags(columns.vital, value, columns.statistic)
    flags = flags | quality.cross_flags(columns.message, columns.source_time_ns, columns.vital, value)
    flags = flags | quality.late_flags(columns.vital, measured, received, placed.basis, polled=senders.polled)
    flags[history.marked(messages)[columns.message]] |= np.uint32(Flag.LATE)
    flags[resent & np.isin(columns.clock, (SourceClock.NONE, SourceClock.HUB))] |= np.uint32(Flag.POSSIBLE_DUPLICATE)
    batch = VitalBatch(
        senders.tokens, tuple(worn.patients), device, placed.patient, columns.vital,
        columns.source_time_ns, repeated.numbered(columns.seq, placed.hour), placed.time_ns, ended, placed.basis,
        local.offsets(placed, row_in_table, worn), value, columns.value, columns.unit, columns.statistic,
        flags.astype(np.uint32), ordinal, received,
        repeated.marked(_bounded(columns.context, placed.after_ns), placed.hour),
    )  # fmt: skip
    return batch, settled


def _bounded(context: Mapping[int, Mapping[str, Any]], after_ns: Int64) -> Mapping[int, Mapping[str, Any]]:
    """The context of rows, with the bound of those whose time is unknown."""
    rows = np.flatnonzero(after_ns != NO_TIME).tolist()
    if not rows:
        return context
    return {**context, **{row: {**context.get(row, {}), AFTER_KEY: int(after_ns[row])} for row in rows}}


def _identify(
    batch: VitalBatch, placed: Placed, origins: Origins, identities: KnownReadings, out: Outcome,
    provenance: Provenance,
) -> Bools:  # fmt: skip
    """Split rows into duplicates, revisions, new, unassigned and withdrawn; returns the rows that are no duplicates."""
    batch = batch.replace(provenance=provenance)
    numbers = np.array([identities.device_id(token) for token in batch.devices], np.int64)[batch.device]
    withdrawn = (batch.flags & np.uint32(Flag.RETRACTED)) != 0
    if not withdrawn.any():
        return _sort_out(batch, placed, numbers, origins, identities, out)
    fresh = np.zeros(len(batch), bool)
    kept = ~withdrawn
    fresh[kept] = _sort_out(batch.take(kept), placed.take(kept), numbers[kept], origins.take(kept), identities, out)
    document = origins.document[withdrawn]
    fresh[withdrawn] = _withdraw(batch.take(withdrawn), numbers[withdrawn], document, identities, out)
    return fresh


def _sort_out(
    batch: VitalBatch, placed: Placed, numbers: Int64, origins: Origins, identities: KnownReadings, out: Outcome
) -> Bools:
    duplicate, revision, seq = identities.identify(
        numbers, batch.vital, batch.source_time_ns, batch.seq, batch.received_ns, batch.value, batch.flags, origins
    )
    batch = batch.replace(seq=seq)
    waiting = ~duplicate & (batch.patient == UNASSIGNED)
    if revision.any():
        flags = batch.flags | np.where(revision, np.uint32(Flag.REVISION), np.uint32(0))
        # What was withdrawn stays withdrawn, whatever comes after it, and waits for nobody.
        again = np.flatnonzero(revision)
        gone = again[identities.withdrawn(numbers[again], batch.take(again))]
        flags[gone] |= np.uint32(Flag.RETRACTED)
        batch = batch.replace(flags=flags)
        waiting[gone] = False
    stored = ~duplicate & ~waiting
    for what, rows in (("repeated", duplicate), ("unassigned", waiting), ("revision", stored & revision)):
        out.tally.add_rows(batch.devices, what, batch.device[rows])
    stored &= batch.patient != UNASSIGNED
    if stored.any():
        out.batches.append(_compact(batch.take(stored)))
    _wait(batch, placed.reason, waiting, out)
    return ~duplicate


def _withdraw(batch: VitalBatch, numbers: Int64, document: Int64, identities: KnownReadings, out: Outcome) -> Bools:
    """Rows by which a source takes readings back: the first of each counts as a revision."""
    fresh, gone = identities.withdraw(numbers, batch, document)
    for what, rows in (("repeated", ~fresh), ("revision", fresh)):
        out.tally.add_rows(batch.devices, what, batch.device[rows])
    if fresh.any():
        out.withdrawn.append(gone)
    return fresh


def _learn(batch: VitalBatch, placed: Placed, worn: WearTable, out: Outcome) -> bool:
    """Take in the records whose time is out of line; whether the time of one of them is known by it."""
    learned = False
    for row in np.flatnonzero(placed.odd).tolist():
        device = batch.devices[batch.device[row]]
        if device not in worn.rows:
            continue
        arrived_ns = arrival_ns(int(batch.received_ns[row]), batch.context.get(row, {}))
        record = (int(batch.seq[row]), int(batch.source_time_ns[row]), arrived_ns)
        lesson = out.clocks.get(device)
        if lesson is None:
            lesson = out.clocks[device] = Lesson(worn.clock_of(device))
        found = lesson.clock.see(*record)
        lesson.odd.append(record)
        lesson.epochs += found.epochs
        lesson.others |= found.others
        unknown = int(batch.basis[row]) == Basis.UNKNOWN
        learned |= found.others or (unknown and lesson.clock.shift_ns(*record) is not None)
    return learned


def _compact(batch: VitalBatch) -> VitalBatch:
    """The batch with only the patients it names in its vocabulary."""
    used, patient = np.unique(batch.patient, return_inverse=True)
    return batch.replace(patients=tuple(batch.patients[number] for number in used), patient=patient.astype(np.int32))


def _wait(batch: VitalBatch, reason: npt.NDArray[np.uint8], rows: npt.NDArray[np.bool_], out: Outcome) -> None:
    """Group unassigned rows by device, message and reason."""
    if not rows.any():
        return
    index = np.flatnonzero(rows)
    order = index[np.lexsort((reason[index], batch.message[index], batch.device[index]))]
    changes = np.flatnonzero(
        (np.diff(batch.device[order]) != 0) | (np.diff(batch.message[order]) != 0) | (np.diff(reason[order]) != 0)
    )
    for group in np.split(order, changes + 1):
        token = batch.devices[batch.device[group[0]]]
        out.waiting.append(Waiting(token, REASONS[reason[group[0]]], batch.take(group).replace(patients=())))


def _heads(batch: VitalBatch, trusted: Bools) -> dict[str, Head]:
    """The newest trusted wall time of each device that numbers its records."""
    index = np.flatnonzero(trusted)
    order = index[np.lexsort((batch.seq[index], batch.source_time_ns[index], batch.device[index]))]
    last = order[np.flatnonzero(np.diff(batch.device[order], append=-1))]
    return {
        batch.devices[batch.device[row]]: (int(batch.source_time_ns[row]), int(batch.seq[row])) for row in last.tolist()
    }
