"""Same log, same alerts: however entries are cut, from zero or from any snapshot, compiled or not."""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.engine import Engine
from alerts.judging.scoring import is_scores
from alerts.judging.slots import SlotTable
from tests.alerts import ward_stories as stories
from tests.alerts.alert_world import SECOND, Ward, at, batch, control, limit, limits_control, reading
from vitals.encoding import decode, encode
from vitals.errors import BackendError
from vitals.glossary import ControlKind, Flag
from vitals.model import Control, Entry, Tick, VitalBatch, concatenate
from vitals.records import AlertEvent

ROOT = Path(__file__).parents[2]
_FLAGS = [0, 0, 0, Flag.SUSPECT, Flag.SUSPECT, Flag.BELOW_RANGE, Flag.ABOVE_RANGE, Flag.LATE, Flag.MANUAL]
_VALUES = [85.0, 89.0, 90.0, 91.0, 92.0, 95.0, 98.0, math.nan]

_CGM = {"vital": "glucose_isf", "unit": "mg/dL", "low": 95.0, "high": 400.0, "severity": "S3"}

_limits = st.lists(
    st.builds(
        limit,
        severity=st.sampled_from(["S1", "S2", "S3"]),
        low=st.sampled_from([None, 88.0, 90.0]),
        high=st.sampled_from([97.0, 99.0]),
        deadband=st.sampled_from([0.0, 1.0, 2.0]),
        on_delay_s=st.sampled_from([0.0, 20.0, 60.0]),
        off_delay_s=st.sampled_from([0.0, 30.0]),
    ),
    max_size=3,
    unique_by=lambda item: item["severity"],
)
_patients = st.sampled_from(["p_1", "p_2"])
_rows = st.tuples(
    st.just("row"), _patients, st.sampled_from(_VALUES), st.sampled_from(_FLAGS), st.sampled_from([-30, 0, 5, 10, 30])
)
_ticks = st.tuples(st.just("tick"), st.sampled_from([0, 10, 60, 1000]))
_cgm_rows = st.tuples(
    st.just("cgm"), _patients, st.sampled_from([85.0, 98.0]),
    st.sampled_from([0, 0, Flag.LATE, Flag.IMPLAUSIBLE]), st.sampled_from([-30, 0, 5, 30]),
)  # fmt: skip
_quiet = st.tuples(st.just("quiet"), st.sampled_from([10, 75, 150]))
_troubles = st.tuples(st.just("technical"), st.booleans())
_limit_changes = st.tuples(st.just("limits"), _patients, _limits)
_decisions = st.tuples(
    st.sampled_from(["acknowledge", "shelve", "note", "resolve"]), st.integers(0, 3), st.sampled_from([30, 300])
)
_scripts = st.lists(
    st.one_of(_rows, _rows, _cgm_rows, _ticks, _quiet, _troubles, _decisions, _limit_changes), min_size=5, max_size=60
)


_any_patient = st.sampled_from(stories.PATIENTS)
_measured = st.sampled_from([(vital, value) for vital, values in stories.VALUES.items() for value in values])
_story_rows = st.builds(
    lambda patient, what, flags, step: ("row", patient, *what, flags, step),
    _any_patient, _measured, st.sampled_from(stories.FLAGS), st.sampled_from([-60, *stories.STEPS]),
)  # fmt: skip
_known = st.sampled_from(["unknown", "no", "yes"])
_story_scripts = st.lists(
    st.one_of(
        *[_story_rows] * 6, st.tuples(st.just("gone"), st.integers(0, 8)),
        st.tuples(st.just("tick"), st.sampled_from(stories.STEPS)),
        st.tuples(st.just("beats"), st.sampled_from([2, 35, 125])),
        st.tuples(st.just("programme"), st.integers(0, stories.PROGRAMMES - 1)),
        st.tuples(st.just("enrol"), _any_patient, st.integers(0, len(stories.CHANGES))),
        st.tuples(st.just("context"), _any_patient, st.integers(0, 2), _known, _known),
        st.tuples(st.just("status"), _any_patient, st.sampled_from(stories.STATUSES)),
        st.tuples(st.just("device"), _any_patient, st.sampled_from(stories.EVENTS)),
        st.tuples(st.sampled_from(stories.DECISIONS), st.integers(0, 3)),
    ),
    min_size=10, max_size=50,
)  # fmt: skip


def _entries(script: Sequence[tuple[Any, ...]], first: list[dict[str, Any]]) -> list[Entry]:
    """A script as entries of one row each; decisions name alerts that were really raised."""
    ward, now, versions, entries = Ward(), 0, {"p_1": 1, "p_2": 1}, []
    for patient in versions:
        entries.append(limits_control(1, *first, limit(**_CGM), patient=patient))
    for entry in entries:
        ward.entry(entry)
    for number, item in enumerate(script):
        entry: Entry
        body: dict[str, Any]
        match item:
            case ("row", patient, value, flags, step):
                now = max(now, now + step)
                entry = batch(reading(now + min(step, 0), value, flags=int(flags), patient=patient, seq=number))
            case ("cgm", patient, value, flags, step):
                now = max(now, now + step)
                row = reading(now + min(step, 0), value, flags=int(flags), patient=patient, vital="glucose_isf",
                              seq=number)  # fmt: skip
                entry = batch(row)
            case ("quiet", beats):
                for _ in range(beats - 1):
                    now += 25
                    entries.append(Tick(at(now)))
                    ward.entry(entries[-1])
                now += 25
                entry = Tick(at(now))
            case ("technical", active):
                body = {"cause": "pipeline_lag", "active": active, "since_ns": at(now)}
                entry = control(ControlKind.TECHNICAL, now, "watchdog", **body)
            case ("tick", step):
                now += step
                entry = Tick(at(now))
            case ("limits", patient, limits):
                versions[patient] += 1
                watched = [limit(**_CGM)] * (versions[patient] % 3 != 0)
                entry = limits_control(versions[patient], *limits, *watched, patient=patient)
            case (kind, back, duration):
                alerts = list(dict.fromkeys(event.alert for event in ward.said))
                body = {"alert": alerts[-1 - back] if back < len(alerts) else "a_unknown"}
                body |= {"note": "n"} if kind != "shelve" else {"until_ns": at(now + duration), "reason": "r"}
                entry = control(ControlKind(kind), now, **body)
        ward.entry(entry)
        entries.append(entry)
    return entries


def _recut(entries: Sequence[Entry], cuts: Sequence[bool]) -> list[Entry]:
    """Adjacent readings merged, except where a cut says so; scores are entries of their own."""
    out: list[Entry] = []
    for number, entry in enumerate(entries):
        both = [one for one in (entry, *out[-1:]) if isinstance(one, VitalBatch) and not is_scores(one)]
        if len(both) == 2 and not cuts[number % len(cuts)]:
            out[-1] = concatenate([out[-1], entry])  # type: ignore[list-item]
        else:
            out.append(entry)
    return out


def _told(entries: Sequence[Entry], *, restore_at: int = -1, wire: bool = False) -> bytes:
    engine, events = Engine(), list[AlertEvent]()
    for number, entry in enumerate(entries):
        if number == restore_at:
            saved = engine.snapshot()
            engine = Engine.restore(saved)
            assert engine.snapshot() == saved
        events += engine.apply(number + 1, decode(encode(entry)) if wire else entry).events
    return msgspec.json.encode(events)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(_scripts, _limits, st.lists(st.booleans(), min_size=1, max_size=7), st.integers(0, 60))
def test_events_do_not_depend_on_how_the_log_was_cut_or_where_it_was_resumed(
    script: list[tuple[Any, ...]], first: list[dict[str, Any]], cuts: list[bool], restore_at: int
) -> None:
    entries = _entries(script, first)
    expected = _told(entries)
    assert _told(_recut(entries, [False])) == expected
    recut = _recut(entries, cuts)
    assert _told(recut, restore_at=restore_at % len(recut), wire=True) == expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(_story_scripts, st.lists(st.booleans(), min_size=1, max_size=7), st.integers(0, 100))
def test_so_it_is_of_patients_under_programmes(script: list[stories.Item], cuts: list[bool], restore_at: int) -> None:
    entries = stories.told(script)
    expected = _told(entries)
    assert _told(_recut(entries, [False])) == expected
    recut = _recut(entries, cuts)
    assert _told(recut, restore_at=restore_at % len(recut), wire=True) == expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(_scripts, _limits)
def test_invariants_of_every_history(script: list[tuple[Any, ...]], first: list[dict[str, Any]]) -> None:
    engine, events = Engine(), list[AlertEvent]()
    for number, entry in enumerate(_entries(script, first)):
        caused = engine.apply(number + 1, entry).events
        if isinstance(entry, Tick):
            assert all(event.state != "resolved" for event in caused), "nothing resolves on absence of data"
        events += caused
    assert len({event.id for event in events}) == len(events), "every event has its own id"
    last: dict[str, AlertEvent] = {}
    for event in events:
        before = last.get(event.alert)
        assert event.number == (0 if before is None else before.number + 1)
        assert (event.kind == "raised") == (before is None)
        if before is not None:
            assert before.state != "resolved", "resolved is the end"
            if event.state == "resolved" and event.severity == 1 and not event.author:
                assert any(e.kind == "acknowledged" for e in events if e.alert == event.alert), "S1 latches"
        last[event.alert] = event
    open_alerts = {alert.id for alert in engine.open_alerts()}
    assert open_alerts == {ident for ident, event in last.items() if event.state != "resolved"}


def _fixed_log(seed: int) -> list[Entry]:
    rng = np.random.default_rng(seed)
    script: list[tuple[Any, ...]] = []
    for _ in range(400):
        match int(rng.integers(0, 10)):
            case 0:
                script.append(("tick", int(rng.choice([0, 10, 60, 1000]))))
            case 1:
                kind = str(rng.choice(["acknowledge", "shelve", "note", "resolve"]))
                script.append((kind, int(rng.integers(0, 3)), int(rng.choice([30, 300]))))
            case _:
                patient = str(rng.choice(["p_1", "p_2"]))
                flag = _FLAGS[int(rng.integers(0, len(_FLAGS)))]
                script.append(("row", patient, float(rng.choice(_VALUES)), flag, int(rng.choice([-30, 0, 5, 30]))))
    first = [limit(severity="S1", on_delay_s=20.0, high=97.0), limit(off_delay_s=30.0), limit(severity="S3", low=92.0)]
    return _entries(script, first)


def _fixed_story(seed: int) -> list[Entry]:
    """A log of patients under programmes."""
    rng = np.random.default_rng(seed)

    def one(choices: Sequence[Any]) -> Any:
        return choices[int(rng.integers(0, len(choices)))]

    script: list[stories.Item] = []
    for _ in range(500):
        patient = one(stories.PATIENTS)
        match int(rng.integers(0, 25)):
            case 0 | 1:
                script.append(("tick", one(stories.STEPS)))
            case 2:
                script.append((one(stories.DECISIONS), int(rng.integers(0, 3))))
            case 3:
                script.append(("beats", 25))
            case 4:
                changes: list[stories.Item] = [
                    ("programme", int(rng.integers(0, stories.PROGRAMMES))), ("enrol", patient, 2),
                    ("context", patient, int(rng.integers(0, 3)), "yes", "yes"),
                    ("status", patient, one(stories.STATUSES)), ("gone", int(rng.integers(0, 8))),
                ]  # fmt: skip
                script.append(one(changes))
            case 5:
                script.append(("device", patient, one(stories.EVENTS)))
            case _:
                vital = one(list(stories.VALUES))
                script.append(("row", patient, vital, one(stories.VALUES[vital]), one(stories.FLAGS),
                               one([-60, *stories.STEPS])))  # fmt: skip
    return stories.told(script)


def fixed_events() -> bytes:
    """Events of long seeded logs, as bytes."""
    logs = [_fixed_log(seed) for seed in range(4)] + [_fixed_story(seed) for seed in range(4)]
    return b"\n".join(_told(_recut(log, [False])) for log in logs)


def test_without_the_compiler_the_same_bytes_come_out() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.alerts.test_engine_properties import fixed_events\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "from alerts.judging.kernels import load\n"
        "assert not isinstance(load().scan_rows, Dispatcher)\n"
        "sys.stdout.buffer.write(fixed_events())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == fixed_events()
    assert run.stdout.count(b'"kind":"worsened"') > 3, "the logs are eventful"


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([99, 1, {}, []]), b"\x94\x01\x01\x80\x90"])
def test_an_unreadable_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(BackendError, match="snapshot") as caught:
        Engine.restore(data)
    assert not caught.value.retryable


def test_a_snapshot_with_columns_of_another_length_is_refused() -> None:
    ward = Ward(limit())
    state = msgspec.msgpack.decode(ward.engine.snapshot())
    state[3]["table"]["columns"]["rule"] = b"123"
    with pytest.raises(BackendError, match="snapshot"):
        Engine.restore(msgspec.msgpack.encode(state))


def test_restored_tables_grow_on() -> None:
    ward = Ward(limit())
    engine = Engine.restore(ward.engine.snapshot())
    for number in range(300):
        engine.apply(engine.position + 1, limits_control(1, limit(), patient=f"p_{number}x"))
    (event,) = engine.apply(engine.position + 1, batch(reading(0, 80.0, patient="p_299x"))).events
    assert event.patient == "p_299x"


def test_a_million_slots_stay_far_under_a_gigabyte() -> None:
    table = SlotTable()
    slots = 256
    for number in range(slots):
        table.assign([f"p_{number}"], [], own=True)
    per_slot = sum(column.itemsize for column in table.slots)
    per_patient = table.heads.nbytes / len(table.heads)
    assert 1_000_000 * (per_slot + per_patient) < 500_000_000, "even with one slot a patient"


def test_an_hour_of_seconds_of_one_patient_folds_in_one_entry() -> None:
    ward = Ward(limit(on_delay_s=30.0, off_delay_s=30.0))
    rows = [reading(n, 80.0 if (n // 600) % 2 else 97.0) for n in range(3600)]
    events = ward.entry(batch(*rows))
    assert [(e.kind, (e.at_ns - at(1)) // SECOND) for e in events] == [
        ("raised", 630), ("resolved", 1230), ("reopened", 1830), ("resolved", 2430), ("reopened", 3030),
    ]  # fmt: skip


def test_a_control_of_every_kind_survives_the_wire() -> None:
    original = limits_control(1, limit())
    copy = decode(encode(original))
    assert isinstance(copy, Control)
    first, second = Engine(), Engine()
    first.apply(1, original)
    second.apply(1, copy)
    assert first.snapshot() == second.snapshot()
