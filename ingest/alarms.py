"""Alarms that devices raise themselves: whose they are, and what of them is told to the engine.

The journal keeps the newest word of each alarm, so that a device which repeats an alarm tells it once, and an end that
overtakes its beginning is not lost. The engine gets an ``alarm`` control when an alarm begins, when it becomes more
urgent, every 15 minutes while the device goes on with it, and when it ends.
"""

from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final, NamedTuple

import numpy as np

from ingest import history
from ingest.adapter import Alarm
from ingest.journal.identities import Cycle
from ingest.placing.clocks import PLAUSIBLE_FROM_NS
from ingest.placing.wear import WearTable
from vitals.catalog import BY_CODE
from vitals.glossary import ControlKind, Mode
from vitals.model import Control, Message
from vitals.ports import PatientCheck
from vitals.times import DAY_NS, MINUTE_NS, NO_TIME

AGAIN_NS: Final = 15 * MINUTE_NS
KEPT_NS: Final = 7 * DAY_NS
"""What was over, and told, this long ago is forgotten: a message about it would be history anyway."""
UNKNOWN: Final = "unknown"
"""Stands for the code of an alarm that has none."""
_PAGING_AGE_NS: Final = 5 * MINUTE_NS
"""Of an alarm that names no vital sign."""
_RANK: Final[Mapping[str, int]] = {"high": 1, "medium": 2, "unknown": 2, "low": 3}


class OwnedAlarm(NamedTuple):
    """An alarm with its patient (empty: nobody's), measured at ``time_ns``, received at ``received_ns``."""

    device: str
    patient: str
    other_patient: bool
    alarm: Alarm
    time_ns: int
    received_ns: int
    ordinal: int
    late: bool


def owned(
    alarms: Sequence[Alarm], messages: Sequence[Message], worn: WearTable, patients: PatientCheck | None
) -> list[OwnedAlarm]:
    """Give alarms to who wore the device when they began. One that names another patient is nobody's; ``late`` is one
    that is older than the paging age, or history by the word of its sender. The alarm of a clock that was never set is
    one of its arrival."""
    found = []
    marked = history.marked(messages) if alarms else np.zeros(0, bool)
    for alarm in alarms:
        message = messages[alarm.message]
        unset = alarm.time_ns < PLAUSIBLE_FROM_NS and not marked[alarm.message]
        time_ns = message.received_ns if unset or alarm.time_ns == NO_TIME else min(alarm.time_ns, message.received_ns)
        patient = worn.wearer(message.device, time_ns)
        other = bool(patient and alarm.named and patients and patients.contradicts(patient, alarm.named))
        age_ns = BY_CODE[alarm.vital].paging_age_ns(Mode.CONTINUOUS) if alarm.vital else _PAGING_AGE_NS
        late = bool(marked[alarm.message]) or message.received_ns - time_ns > age_ns
        found.append(
            OwnedAlarm(message.device, "" if other else patient, other, alarm, time_ns, message.received_ns,
                       message.ordinal, late)
        )  # fmt: skip
    return found


class _Known(NamedTuple):
    patient: str
    about: str
    active: int
    time_ns: int
    told_ns: int | None
    rank: int


def follow(cycle: Cycle, alarms: Sequence[OwnedAlarm], author: str, *, live: bool) -> None:
    """Append ``alarm`` controls in the cycle's transaction. Without ``live`` (a replay) every alarm is late."""
    for one in alarms:
        known = _known(cycle.sql, one)
        if known is not None and known.active and known.patient != one.patient and one.time_ns >= known.time_ns:
            # The device was handed over: this is no alarm of the former wearer any more.
            _end(cycle, one, known, author)
            known = None
        if one.alarm.ends:
            _over(cycle, one, known, author, late=one.late or not live)
        elif known is not None and one.time_ns < known.time_ns:
            if known.told_ns is None:
                _tell(cycle, one, "late", author)
                _keep(cycle.sql, one, known._replace(told_ns=one.received_ns))
        elif one.late or not live:
            if known is None:
                _tell(cycle, one, "late", author)
                _keep(cycle.sql, one, _Known(one.patient, _about(one), 0, one.time_ns, one.received_ns, _rank(one)))
        else:
            _goes_on(cycle, one, known, author)


def _goes_on(cycle: Cycle, one: OwnedAlarm, known: _Known | None, author: str) -> None:
    told_ns, rank = (None, 9) if known is None or not known.active else (known.told_ns, known.rank)
    ended_before = known is not None and not known.active and known.told_ns is not None
    if ended_before and known is not None and one.time_ns == known.time_ns:
        return  # It was over at that very time: a repeated message.
    if told_ns is None or _rank(one) < rank or one.received_ns - told_ns >= AGAIN_NS:
        _tell(cycle, one, "begins", author)
        told_ns = one.received_ns
    now = _Known(one.patient, _about(one), int(not one.alarm.instant), one.time_ns, told_ns, min(rank, _rank(one)))
    _keep(cycle.sql, one, now)
    if one.alarm.instant:
        _end(cycle, one, now, author)


def _over(cycle: Cycle, one: OwnedAlarm, known: _Known | None, author: str, *, late: bool) -> None:
    if known is not None and one.time_ns < known.time_ns:
        return
    told_ns = one.received_ns if known is None else known.told_ns
    over = _Known(one.patient, _about(one), 0, one.time_ns, told_ns, _rank(one))
    _keep(cycle.sql, one, over)
    if known is None:
        # Its beginning never came, or comes later: what the monitor alarmed about is told all the same.
        _tell(cycle, one, "late" if late else "begins", author)
        if not late:
            _end(cycle, one, over, author)
    elif known.active:
        _end(cycle, one, known, author)


def _end(cycle: Cycle, one: OwnedAlarm, known: _Known, author: str) -> None:
    """Tell that it is over, unless another alarm of the same alert goes on."""
    others = cycle.sql.execute(
        "SELECT 1 FROM alarms WHERE patient=? AND about=? AND active AND NOT (device=? AND alarm=?) "
        "AND (patient<>'' OR device=?)",
        (known.patient, known.about, one.device, one.alarm.ident, one.device),
    ).fetchone()
    if others is None:
        _tell(cycle, one._replace(patient=known.patient), "ends", author, about=known.about)


def _tell(cycle: Cycle, one: OwnedAlarm, step: str, author: str, *, about: str = "") -> None:
    body: dict[str, Any] = {
        "device": one.device, "patient": one.patient, "step": step, "about": about or _about(one),
        "vital": one.alarm.vital, "label": one.alarm.label, "value": one.alarm.value, "priority": one.alarm.priority,
        "other_patient": one.other_patient, "time_ns": one.time_ns, "message": one.ordinal,
    }  # fmt: skip
    cycle.append(Control(ControlKind.ALARM, one.received_ns, author, body))


def _about(one: OwnedAlarm) -> str:
    """What alerts of one patient are told apart by: the vital sign, else the code."""
    return BY_CODE[one.alarm.vital].key if one.alarm.vital else one.alarm.label.partition(" ")[0] or UNKNOWN


def _rank(one: OwnedAlarm) -> int:
    return _RANK[one.alarm.priority]


def _known(sql: Connection, one: OwnedAlarm) -> _Known | None:
    row = sql.execute(
        "SELECT patient, about, active, time_ns, told_ns, priority FROM alarms WHERE device=? AND alarm=?",
        (one.device, one.alarm.ident),
    ).fetchone()
    return None if row is None else _Known(*row)


def _keep(sql: Connection, one: OwnedAlarm, known: _Known) -> None:
    sql.execute("INSERT OR REPLACE INTO alarms VALUES(?,?,?,?,?,?,?,?)", (one.device, one.alarm.ident, *known))
    sql.execute(
        "DELETE FROM alarms WHERE device=? AND NOT active AND max(time_ns, coalesce(told_ns, time_ns))<?",
        (one.device, one.received_ns - KEPT_NS),
    )
