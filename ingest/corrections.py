"""What changes about readings after they were taken in: withdrawn ones, changed assignments, decisions of people.

Everything here happens in one transaction of the vitals log. A stored reading is never touched: a row with
``RETRACTED`` and ``REVISION`` takes it from the patient who has it, one with ``REVISION`` and ``LATE`` gives it to
another. Nothing that moves pages: it is history.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.journal import worklist
from ingest.journal.identities import Cycle
from ingest.journal.tally import Tally
from ingest.journal.worklist import HeldItem, Waiting
from ingest.placing import clocks
from ingest.placing.attribution import AFTER_KEY, REASONS, Placed, Unplaced, place
from ingest.placing.epochs import DeviceClock
from ingest.placing.local import offsets_anew
from ingest.placing.wear import WearTable
from ingest.waiting import Changes, place_compared, place_waiting
from vitals.errors import InvalidRequest
from vitals.glossary import Basis, ControlKind, Flag
from vitals.model import UNASSIGNED, Control, VitalBatch, concatenate
from vitals.ports import PatientCheck
from vitals.records import Assignment, Device, Patient
from vitals.times import NO_TIME

BY_PERSON = "assigned_by"
"""Context key of a reading that a person gave to a patient: who. It stays where they put it."""
_HISTORY = np.uint32(Flag.REVISION | Flag.LATE)
_GONE = np.uint32(Flag.REVISION | Flag.RETRACTED)
_EVER_NS = 2**62
_MARGIN_NS = clocks.RESET_LEAP_NS
"""Wall time near a change of wearer may lie on either side of it."""
_AGAIN = frozenset({Unplaced.NO_WEARER.value, Unplaced.TWO_WEARERS.value})
"""Reasons to wait that a changed assignment can end, beside a time of known bounds."""

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


class Archive(Protocol):
    """What corrections need of the store."""

    def position(self) -> int:
        """Log position up to which everything is stored."""

    def held(self, device: str, start_ns: int, end_ns: int) -> VitalBatch:
        """Visible readings of a device by time, and all of unknown time."""

    def sent(self, device: str, first_ns: int, last_ns: int) -> VitalBatch:
        """Visible readings of a device by the time as sent."""

    def stored(self) -> Mapping[str, int]:
        """First versions of readings stored, per device."""


class Worn(NamedTuple):
    """Who wore a device over ``first_ns <= time < end_ns``."""

    patient: str
    first_ns: int
    end_ns: int


def worn_by(assignments: Sequence[Assignment]) -> list[Worn]:
    """The wearers of one device by time, zones left out."""
    out: list[Worn] = []
    for one in sorted(assignments, key=lambda item: -_EVER_NS if item.from_ns is None else item.from_ns):
        first, end = (-_EVER_NS if one.from_ns is None else one.from_ns), (_EVER_NS if one.to_ns is None else one.to_ns)
        if out and out[-1].patient == one.patient and out[-1].end_ns == first:
            out[-1] = out[-1]._replace(end_ns=end)
        else:
            out.append(Worn(one.patient, first, end))
    return out


def changed(before: Sequence[Worn], now: Sequence[Worn]) -> list[tuple[int, int]]:
    """The stretches whose wearer is another one now."""
    bounds = sorted({bound for one in (*before, *now) for bound in one[1:]})
    out = []
    for start, end in pairwise(bounds):
        old, new = ([one.patient for one in side if one.first_ns <= start < one.end_ns] for side in (before, now))
        if old != new:
            out.append((start, end))
    return out


def write_worn(worn: Sequence[Worn]) -> bytes:
    """As :meth:`Cycle.give_out` keeps it."""
    return msgspec.msgpack.encode(worn)


def read_worn(body: bytes) -> list[Worn]:
    """The inverse."""
    return [Worn(*one) for one in msgspec.msgpack.decode(body)]


def current(archive: Archive, cycle: Cycle, device: str, read: Callable[[], VitalBatch]) -> VitalBatch:
    """Readings of a device as they stand: ``read`` from the store, and what the log has beyond it."""
    stored_to = archive.position()
    batches = [read()]
    for batch in cycle.batches_after(stored_to):
        if device in batch.devices:
            batches.append(batch.take(batch.device == batch.devices.index(device)))
    rows = concatenate(batches)
    order = np.lexsort((np.arange(len(rows)), rows.seq, rows.source_time_ns, rows.vital))
    last = np.ones(len(rows), bool)
    if len(rows):
        columns = (rows.vital[order], rows.source_time_ns[order], rows.seq[order])
        last[:-1] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    kept = np.sort(order[last])
    return rows.take(kept[(rows.flags[kept] & np.uint32(Flag.RETRACTED)) == 0])


def withdraw(archive: Archive, cycle: Cycle, batch: VitalBatch) -> Tally:
    """Take the readings that ``batch`` names from whoever has them, and from the worklist.

    ``batch`` holds rows with ``RETRACTED`` as adapters give them; their values mean nothing.
    """
    tally = Tally()
    for number in np.unique(batch.device).tolist():
        device, asked = batch.devices[number], batch.take(batch.device == number)
        first_ns, last_ns = int(asked.source_time_ns.min()), int(asked.source_time_ns.max())
        found = _named(current(archive, cycle, device, _sent(archive, device, first_ns, last_ns)), asked)
        if len(found):
            received = np.full(len(found), asked.received_ns.max(), np.int64)
            gone = found.replace(received_ns=received, flags=found.flags | _GONE, provenance=batch.provenance)
            cycle.append(gone)
        for item in worklist.of_device(cycle.sql, device):
            _off(cycle, item, _mask(item.batch, asked), tally)
    cycle.count(tally)
    return tally


def _sent(archive: Archive, device: str, first_ns: int, last_ns: int) -> Callable[[], VitalBatch]:
    return lambda: archive.sent(device, first_ns, last_ns)


def _keys(batch: VitalBatch) -> Iterator[tuple[int, int, int]]:
    return zip(batch.vital.tolist(), batch.source_time_ns.tolist(), batch.seq.tolist(), strict=True)


def _mask(batch: VitalBatch, named: VitalBatch) -> Bools:
    """Rows of ``batch`` whose identity ``named`` has; both are of one device."""
    wanted = set(_keys(named))
    return np.fromiter((key in wanted for key in _keys(batch)), bool, len(batch))


def _named(batch: VitalBatch, named: VitalBatch) -> VitalBatch:
    return batch.take(_mask(batch, named))


def _off(cycle: Cycle, item: HeldItem, rows: Bools, tally: Tally) -> None:
    """Superseded rows leave the worklist: a later version of them is what counts."""
    if not rows.any():
        return
    worklist.take(cycle.sql, item, rows)
    if not item.recalled:
        tally.add(item.item.device, "unassigned", -int(rows.sum()))
        tally.add(item.item.device, "revision", int(rows.sum()))


def columns_of(batch: VitalBatch) -> Columns:
    """Readings as an adapter gave them, as far as their times go."""
    odd = (batch.source_time_ns < clocks.PLAUSIBLE_FROM_NS) | (
        batch.source_time_ns > batch.received_ns + clocks.FUTURE_TOLERANCE_NS
    )
    clock = np.full(len(batch), SourceClock.WALL, np.uint8)
    clock[batch.basis == Basis.DEVICE] = SourceClock.INSTANT
    clock[(batch.basis == Basis.UNKNOWN) & odd] = SourceClock.INSTANT
    clock[batch.basis == Basis.DAY] = SourceClock.DAY
    # Unknown for another reason than these: of such a record only bounds are known.
    clock[_having(batch, AFTER_KEY)] = SourceClock.STORED
    # A second measurement of one time is stored with the ordinal of its message, which counts no records of a device.
    seq = np.where(batch.seq == batch.message, 0, batch.seq)
    live = (batch.basis == Basis.RECEIVED) & (batch.source_time_ns == batch.received_ns)
    clock[live | (batch.basis == Basis.HUB)] = SourceClock.NONE
    return Columns(
        np.arange(len(batch)), batch.vital, clock, batch.source_time_ns, batch.end_ns, batch.tz_min, seq,
        batch.value, batch.unit, batch.statistic, batch.flags, batch.context,
    )  # fmt: skip


def place_again(batch: VitalBatch, device: Device, assignments: Sequence[Assignment]) -> tuple[VitalBatch, Placed]:
    """Readings of one device given out anew by ``assignments``; a time that was corrected stays as it is."""
    worn = WearTable([device], assignments)
    columns = columns_of(batch)
    was_corrected = (batch.flags & np.uint32(Flag.CLOCK_CORRECTED)) != 0
    shown_ns = np.where(was_corrected, batch.time_ns, clocks.shown(batch.source_time_ns, batch.context))
    after_ns = [batch.context.get(row, {}).get(AFTER_KEY, NO_TIME) for row in range(len(batch))]
    device_row = np.zeros(len(batch), np.int64)
    placed = place(columns, shown_ns, device_row, batch.received_ns, worn, np.array(after_ns, np.int64))
    moved = batch.replace(
        patients=tuple(worn.patients), patient=placed.patient, time_ns=placed.time_ns, basis=placed.basis,
        tz_min=offsets_anew(placed, device_row, worn), flags=batch.flags | placed.flags,
        end_ns=clocks.ends(batch.end_ns - batch.time_ns, placed.time_ns, batch.end_ns),
    )  # fmt: skip
    return moved, placed


def reassign(
    archive: Archive, cycle: Cycle, device: Device, assignments: Sequence[Assignment], before: Sequence[Worn] | None,
    author: str, now_ns: int, patients: PatientCheck | None = None,
) -> Changes:  # fmt: skip
    """Let the readings of a device follow its changed assignments; ``before`` None: only those that wait.

    What a person has given to a patient stays where it is. Readings that wait and name another patient than the one
    they would go to, by ``patients``, go on waiting for that reason.
    """
    done = Changes()
    # A device that nobody wore has nothing stored.
    stretches = changed(before, worn_by(assignments)) if before else []
    entries: list[VitalBatch] = []
    if stretches:
        start, end = max(stretches[0][0] - _MARGIN_NS, -_EVER_NS), min(stretches[-1][1] + _MARGIN_NS, _EVER_NS)
        rows = current(archive, cycle, device.id, lambda: archive.held(device.id, start, end))
        near = (rows.basis == Basis.UNKNOWN) | _within(rows.time_ns, stretches)
        near &= ~_having(rows, BY_PERSON)
        entries += _move(cycle, rows.take(near), device, assignments, now_ns, done)
    for item in worklist.of_device(cycle.sql, device.id):
        if item.item.reason == Unplaced.OTHER_PATIENT:
            continue  # The assignment does not say who that is: a person does.
        moved, placed = place_again(item.batch, device, assignments)
        clear = (placed.patient != UNASSIGNED) & ((item.item.reason in _AGAIN) | _having(item.batch, AFTER_KEY))
        entries += place_compared(cycle, item, moved, clear, done, patients, now_ns)
    if done.withdrawn or done.placed:
        body = {"device": device.id, "moved": done.withdrawn, "placed": done.placed}
        cycle.append(Control(ControlKind.REASSIGN, now_ns, author, body))
    for entry in entries:
        cycle.append(entry)
    cycle.count(done.tally)
    return done


def _within(time_ns: npt.NDArray[np.int64], stretches: Sequence[tuple[int, int]]) -> Bools:
    inside = np.zeros(len(time_ns), bool)
    for start, end in stretches:
        inside |= (time_ns >= start - _MARGIN_NS) & (time_ns < end + _MARGIN_NS)
    return inside


def _move(
    cycle: Cycle, rows: VitalBatch, device: Device, assignments: Sequence[Assignment], now_ns: int, done: Changes,
    *, at_ns: Int64 | None = None,
) -> list[VitalBatch]:  # fmt: skip
    """Stored rows that belong to somebody else now, or to nobody: taken from one, given to the other. With ``at_ns``,
    their times as they are known now, all of them."""
    if not len(rows):
        return []
    moved, placed = place_again(rows if at_ns is None else corrected(rows, at_ns), device, assignments)
    had = [rows.patients[number] for number in rows.patient.tolist()]
    has = [None if number == UNASSIGNED else moved.patients[number] for number in moved.patient.tolist()]
    other = np.array([old != new for old, new in zip(had, has, strict=True)], bool) | (at_ns is not None)
    if not other.any():
        return []
    done.withdrawn += int(other.sum())
    gone = rows.take(other)
    gone = gone.replace(flags=gone.flags | _GONE, received_ns=np.full(len(gone), now_ns, np.int64))
    given = moved.replace(flags=moved.flags | _HISTORY).take(other & (placed.patient != UNASSIGNED))
    nobody = other & (placed.patient == UNASSIGNED)
    for code in np.unique(placed.reason[nobody]).tolist():
        waits = moved.take(nobody & (placed.reason == code)).replace(patients=())
        worklist.wait(cycle.sql, [Waiting(device.id, REASONS[code], waits, recalled=True)])
    return [gone, given] if len(given) else [gone]


def recover(
    archive: Archive, cycle: Cycle, device: Device, assignments: Sequence[Assignment], clock: DeviceClock, now_ns: int,
    patients: PatientCheck | None = None,
) -> Changes:  # fmt: skip
    """Give readings of a reset clock that wait, or were stored with an unknown time or that of their arrival, the times
    that are known by now. What arrived as it was measured stays where it is: it may have raised an alert.

    ``patients`` as :func:`reassign` takes it."""
    done = Changes()
    sent = [source_ns for _, source_ns in clock.odd]
    stored = current(archive, cycle, device.id, _sent(archive, device.id, min(sent), max(sent)))
    arrived = (stored.flags & np.uint32(Flag.CLOCK_WRONG)) != 0
    unknown = stored.take((stored.basis == Basis.UNKNOWN) | arrived)
    unknown = unknown.take(~_having(unknown, BY_PERSON))
    known, at_ns = _shifted(unknown, clock)
    known &= (unknown.basis == Basis.UNKNOWN) | (unknown.received_ns - at_ns > clocks.LIVE_TOLERANCE_NS)
    entries = _move(cycle, unknown.take(known), device, assignments, now_ns, done, at_ns=at_ns[known])
    for item in worklist.of_device(cycle.sql, device.id):
        known, at_ns = _shifted(item.batch, clock)
        if known.any() and item.item.reason != Unplaced.OTHER_PATIENT:
            whole = corrected(item.batch, np.where(known, at_ns, item.batch.time_ns))
            moved, placed = place_again(whole, device, assignments)
            known &= placed.patient != UNASSIGNED
            entries += place_compared(cycle, item, moved, known, done, patients, now_ns)
    for entry in entries:
        cycle.append(entry)
    cycle.count(done.tally)
    return done


def _having(batch: VitalBatch, key: str) -> Bools:
    """Rows with ``key`` in their context."""
    return np.array([key in batch.context.get(row, {}) for row in range(len(batch))], bool)


def _shifted(batch: VitalBatch, clock: DeviceClock) -> tuple[Bools, Int64]:
    """Rows that the shifts of a clock reach, and their corrected times."""
    known, at_ns = np.zeros(len(batch), bool), batch.source_time_ns.copy()
    records = zip(batch.seq.tolist(), batch.source_time_ns.tolist(), batch.received_ns.tolist(), strict=True)
    for row, (seq, source_ns, received_ns) in enumerate(records):
        shift_ns = clock.shift_ns(seq, source_ns, received_ns) if (seq, source_ns) in clock.odd else None
        if shift_ns is not None:
            known[row] = True
            at_ns[row] += shift_ns
    return known, at_ns


def assign(
    cycle: Cycle, item: HeldItem, device: Device, patient: Patient, shift_ns: int | None, author: str, now_ns: int
) -> int:
    """Give an item's readings to a patient, as a person has decided; how many were stored."""
    batch, done = item.batch, Changes()
    if shift_ns is not None:
        time_ns = batch.source_time_ns + shift_ns
        if (time_ns > batch.received_ns + clocks.FUTURE_TOLERANCE_NS).any():
            raise InvalidRequest("shift_s", "leads past the receipt of a reading")
        moved = corrected(batch, time_ns)
    elif item.item.reason in _AGAIN:
        always = Assignment(device.id, patient.id, None, None, patient.zone or device.zone)
        moved, _ = place_again(batch, device, [always])
    else:
        moved = batch
    context = {row: {**batch.context.get(row, {}), BY_PERSON: author} for row in range(len(batch))}
    owned = moved.replace(patients=(patient.id,), patient=np.zeros(len(batch), np.int32), context=context)
    body = {"item": item.item.id, "device": device.id, "patient": patient.id, "readings": len(batch)}
    cycle.append(
        Control(ControlKind.ASSIGN, now_ns, author, body | ({} if shift_ns is None else {"shift_ns": shift_ns}))
    )
    for entry in place_waiting(cycle, item, owned, np.ones(len(batch), bool), done):
        cycle.append(entry)
    worklist.resolve(cycle.sql, item.item.id, "assigned", patient.id, author, now_ns)
    cycle.count(done.tally)
    return done.placed


def corrected(batch: VitalBatch, time_ns: Int64) -> VitalBatch:
    """Readings at times that are known now."""
    flags = batch.flags & ~np.uint32(Flag.CLOCK_SUSPECT | Flag.CLOCK_WRONG) | np.uint32(Flag.CLOCK_CORRECTED)
    rows = len(batch)
    return batch.replace(
        time_ns=time_ns, end_ns=clocks.ends(batch.end_ns - batch.time_ns, time_ns, batch.end_ns),
        basis=np.full(rows, Basis.DEVICE, np.uint8), tz_min=np.zeros(rows, np.int16), flags=flags,
        context={row: {k: v for k, v in items.items() if k != AFTER_KEY} for row, items in batch.context.items()},
    )  # fmt: skip


def discard(cycle: Cycle, item: HeldItem, reason: str, author: str, now_ns: int) -> int:
    """Give an item's readings up; how many. They stay in the file and in the ledger."""
    body = {"item": item.item.id, "device": item.item.device, "reason": reason, "readings": len(item.batch)}
    cycle.append(Control(ControlKind.DISCARD, now_ns, author, body))
    worklist.resolve(cycle.sql, item.item.id, "discarded", None, author, now_ns)
    return len(item.batch)
