"""``omh``: what an encoder written from device-formats.md 3 sends is what the adapter reads."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.decoding import reading_rows
from tests.adapters.omh_facts import MEMBERS, STATISTICS, UNITS, VERSIONS, VITALS, canonical, good
from vitals.glossary import Statistic
from vitals.times import NO_TIME


class Measured(NamedTuple):
    """What a device measured, as the test's own encoder takes it."""

    name: str
    version: str
    unit: str
    values: tuple[float, ...]
    start_ms: int
    length_s: int
    offset_min: int
    statistic: str | None
    dialect: str
    form: str


def rfc3339(time_ms: int, offset_min: int) -> str:
    moved = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms, minutes=offset_min)
    sign, (hours, minutes) = "-" if offset_min < 0 else "+", divmod(abs(offset_min), 60)
    return moved.strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ms % 1000:03}{sign}{hours:02}:{minutes:02}"


def encoded(measured: Measured) -> dict[str, Any]:
    """A data point as device-formats.md 3 describes it."""
    start = rfc3339(measured.start_ms, measured.offset_min)
    end = rfc3339(measured.start_ms + measured.length_s * 1_000, measured.offset_min)
    length = {"value": measured.length_s, "unit": "sec"}
    frame = {
        "point": {"date_time": start},
        "start and end": {"time_interval": {"start_date_time": start, "end_date_time": end}},
        "start": {"time_interval": {"start_date_time": start, "duration": length}},
        "end": {"time_interval": {"duration": length, "end_date_time": end}},
    }[measured.form]
    body: dict[str, Any] = {
        member: {"value": value, "unit": measured.unit}
        for member, value in zip(MEMBERS[measured.name], measured.values, strict=False)
    }
    if measured.name == "step-count" and measured.version < "3.0":
        body = {"step_count": measured.values[0]}
    body["effective_time_frame"] = frame
    if measured.statistic is not None:
        body["descriptive_statistic"] = measured.statistic
    schema = {"namespace": "omh", "name": measured.name, "version": measured.version}
    match measured.dialect:
        case "omh":
            made = {"id": "x", "creation_date_time": end, "schema_id": schema}
        case "ieee":
            made = {"uuid": "x", "source_creation_date_time": end, "schema_id": schema, "modality": "sensed"}
        case _:
            return body
    return {"header": made, "body": body}


@st.composite
def measurements(draw: st.DrawFn) -> Measured:
    name = draw(st.sampled_from(sorted(VERSIONS)))
    form = (
        "start"
        if name in {"step-count", "sleep-duration"}
        else draw(st.sampled_from(["point", "start and end", "start", "end"]))
    )
    return Measured(
        name,
        draw(st.sampled_from(VERSIONS[name])),
        draw(st.sampled_from(sorted(UNITS.get(name, {"C": 1, "K": 1, "F": 1})))),
        draw(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))),
        draw(st.integers(0, 4_000_000_000_000)),
        0 if form == "point" else draw(st.integers(1, 10_000_000)),
        draw(st.integers(-14 * 60, 14 * 60)),
        draw(st.none() | st.sampled_from(["average", "minimum", "maximum", "median", "sum"])),
        draw(st.sampled_from(["none", "omh", "ieee"])),
        form,
    )


@settings(max_examples=300)
@given(measurements())
def test_what_is_encoded_is_decoded_again(measured: Measured) -> None:
    kind = f"{measured.name}-{measured.version}" if measured.dialect == "none" else measured.name
    batch = good(encoded(measured), kind)
    rows = reading_rows(batch)
    assert [row["vital"] for row in rows] == [VITALS[member] for member in MEMBERS[measured.name]]
    for row, sent in enumerate(measured.values[: len(rows)]):
        if measured.name == "body-temperature":
            degrees = {"C": sent, "K": sent - 273.15, "F": (sent - 32) * 5 / 9}[measured.unit]
            assert canonical(batch, row) == pytest.approx(degrees, abs=1e-8)
        else:
            factor = UNITS[measured.name][measured.unit]
            assert canonical(batch, row) == pytest.approx(sent * factor, rel=1e-12, abs=1e-9)
        if "reported_unit" in batch.context.get(row, {}):
            assert batch.context[row]["reported_value"] == sent
        else:
            assert batch.value[row] == sent
        assert batch.source_time_ns[row] == measured.start_ms * 1_000_000
        assert batch.tz_min[row] == measured.offset_min
        length_ns = measured.length_s * 1_000_000_000
        assert batch.ended_ns[row] == (batch.source_time_ns[row] + length_ns if length_ns else NO_TIME)
        assert batch.statistic[row] == STATISTICS.get(measured.statistic or "", Statistic.SINGLE)
