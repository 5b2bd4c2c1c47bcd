"""When an Observation was measured, and what its hub says about the device's clock (device-formats.md 4.3)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ingest.adapter import SourceClock
from ingest.adapters.fhir import codes
from ingest.adapters.fhir.codes import Node, member, required
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS, parse_rfc3339, parse_time
from ingest.placing.clocks import PLAUSIBLE_FROM_NS, STATED_KEY
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.times import DAY_NS, MINUTE_NS, NO_TIME, SECOND_NS

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}(?:-\d\d)?", re.ASCII)
_CLOCK_SUSPECT: Final = int(Flag.CLOCK_SUSPECT)
_CLOCK_CORRECTED: Final = int(Flag.CLOCK_CORRECTED)


class Stamp(NamedTuple):
    """A FHIR dateTime: ``time_ns`` is UTC for instants, else the wall time read as UTC."""

    time_ns: int
    clock: SourceClock
    tz_min: int = 0
    context: Mapping[str, Any] = {}


class EffectiveTime(NamedTuple):
    """Time of a measurement. ``is_end``: nothing was measured after it, but samples end there."""

    time_ns: int
    clock: SourceClock
    tz_min: int
    context: Mapping[str, Any]
    ended_ns: int = NO_TIME
    flags: int = 0
    is_end: bool = False


class Coincident(NamedTuple):
    """The device's clock and the hub's at one moment; ``shift_s`` is hub - device where both are known.

    ``is_fault``: the hub could not read the device's clock, so the times it passed through cannot be trusted.
    """

    shift_s: float | None
    is_fault: bool


def stamp(text: object, path: str) -> Stamp:
    """A dateTime of any precision.

    A day is DAY. A month or year is STORED at its first day: it names no day to count the value on. A time of day
    without an offset is WALL. ``-00:00`` is UTC with the local offset unknown, noted in the context. A time of any
    year is kept as stated.
    """
    if not isinstance(text, str):
        raise DecodeError(Reason.BAD_TYPE, path)
    read = _read(text, path)
    if read.time_ns < PLAUSIBLE_FROM_NS:
        # A record says so, no clock: results of years ago are written today.
        return read._replace(context={**read.context, STATED_KEY: True})
    return read


def _read(text: str, path: str) -> Stamp:
    try:
        if len(text) > 10:
            time_ns, offset = parse_time(text)
            if offset is None:
                return Stamp(time_ns, SourceClock.WALL)
            if offset == 0 and text.endswith("-00:00"):
                return Stamp(time_ns, SourceClock.INSTANT, 0, {"offset": "unknown"})
            return Stamp(time_ns, SourceClock.INSTANT, offset)
        if _DAY.fullmatch(text):
            return Stamp(parse_rfc3339(f"{text}T00:00:00")[0], SourceClock.DAY)
        if _MONTH.fullmatch(text):
            first = f"{text}-01" if len(text) > 4 else f"{text}-01-01"
            precision = {"precision": "month" if len(text) > 4 else "year"}
            return Stamp(parse_rfc3339(f"{first}T00:00:00")[0], SourceClock.STORED, 0, precision)
    except ValueError:
        pass
    raise DecodeError(Reason.BAD_TIME, path)


def _at(point: Stamp) -> EffectiveTime:
    return EffectiveTime(point.time_ns, point.clock, point.tz_min, point.context)


def _span(first: Stamp, last: Stamp, path: str) -> EffectiveTime:
    """From ``first`` to ``last``. Only instants have an end: of wall times and days the length is noted."""
    if first.clock is not last.clock:
        return _at(first)
    if last.time_ns < first.time_ns:
        raise DecodeError(Reason.BAD_TIME, path)
    if first.clock is SourceClock.INSTANT:
        return EffectiveTime(first.time_ns, first.clock, first.tz_min, first.context, last.time_ns)
    length: dict[str, Any] = {}
    if first.clock is SourceClock.WALL:
        length = {"duration_s": (last.time_ns - first.time_ns) / SECOND_NS}
    elif first.clock is SourceClock.DAY:
        length = {"days": (last.time_ns - first.time_ns) // DAY_NS + 1}
    return EffectiveTime(first.time_ns, first.clock, 0, {**first.context, **length})


def _period(node: Node, path: str) -> EffectiveTime:
    first = stamp(node["start"], f"{path}.start") if "start" in node else None
    last = stamp(node["end"], f"{path}.end") if "end" in node else None
    if first is not None:
        return _at(first) if last is None else _span(first, last, f"{path}.end")
    if last is None:
        raise DecodeError(Reason.MISSING_FIELD, f"{path}.start")
    return _at(last)._replace(is_end=True)


def _timing(node: Node, path: str) -> EffectiveTime:
    """Of a schedule: its events, from the first to the last, else the period that bounds it."""
    events = member(node, "event", list, f"{path}.")
    if events:
        stamps = [stamp(event, f"{path}.event[{number}]") for number, event in enumerate(events)]
        stamps.sort(key=lambda point: point.time_ns)
        return _at(stamps[0]) if len(stamps) == 1 else _span(stamps[0], stamps[-1], f"{path}.event")
    repeat = member(node, "repeat", dict, f"{path}.")
    bounds = None if repeat is None else member(repeat, "boundsPeriod", dict, f"{path}.repeat.")
    if bounds is None:
        raise DecodeError(Reason.MISSING_FIELD, f"{path}.event")
    return _period(bounds, f"{path}.repeat.boundsPeriod")


def when(resource: Node, prefix: str, received_ns: int) -> EffectiveTime:
    """Effective time of an Observation; without one ``issued``, marked, and without that the time of receipt."""
    given = [name for name in ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming")
             if name in resource]  # fmt: skip
    if len(given) > 1:
        raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"{prefix}effective[x]")
    if not given:
        if "issued" not in resource:
            return EffectiveTime(received_ns, SourceClock.NONE, 0, {}, is_end=True)
        time_ns, clock, tz_min, context = stamp(resource["issued"], f"{prefix}issued")
        return EffectiveTime(time_ns, clock, tz_min, {**context, "time": "issued"}, is_end=True)
    (name,) = given
    path = prefix + name
    if name == "effectiveDateTime":
        return _at(stamp(resource[name], path))
    if name == "effectiveInstant":
        point = stamp(resource[name], path)
        if point.clock not in {SourceClock.INSTANT, SourceClock.WALL}:
            raise DecodeError(Reason.BAD_TIME, path)
        return _at(point)
    node = required(resource, name, dict, prefix)
    return _period(node, path) if name == "effectivePeriod" else _timing(node, path)


def coincident(resource: Node, prefix: str) -> Coincident:
    """What a coincident time stamp Observation says.

    With ``effectiveDateTime`` (hub) and ``valueDateTime`` (device) the hub has added their difference to the times of
    its measurements. Without the first the device was the better clock, and nothing was changed.
    """
    if "dataAbsentReason" in resource:
        return Coincident(None, is_fault=True)
    if "effectiveDateTime" not in resource or "valueDateTime" not in resource:
        return Coincident(None, is_fault=False)
    hub = stamp(resource["effectiveDateTime"], f"{prefix}effectiveDateTime")
    device = stamp(resource["valueDateTime"], f"{prefix}valueDateTime")
    if hub.clock is not SourceClock.INSTANT or device.clock not in {SourceClock.INSTANT, SourceClock.WALL}:
        return Coincident(None, is_fault=False)
    hub_ns = hub.time_ns + (hub.tz_min * MINUTE_NS if device.clock is SourceClock.WALL else 0)
    return Coincident((hub_ns - device.time_ns) / SECOND_NS, is_fault=False)


def is_coincident(resource: Node, prefix: str) -> bool:
    """Whether an Observation is a coincident time stamp."""
    return not codes.COINCIDENT.isdisjoint(codes.codings(resource, "code", prefix))


def references(resource: Node, prefix: str) -> Sequence[str]:
    """What the Observation is derived from."""
    found = [node.get("reference") for node in codes.objects(resource, "derivedFrom", prefix)]
    return [reference for reference in found if isinstance(reference, str)]


def checked(at: EffectiveTime, clocks: Sequence[Coincident]) -> EffectiveTime:
    """A time in the light of its coincident time stamps: never corrected again, only marked.

    A clock that the hub could not read leaves the order alone (STORED).
    """
    if at.clock is SourceClock.NONE:
        return at
    for clock in clocks:
        if clock.is_fault:
            return at._replace(clock=SourceClock.STORED, ended_ns=NO_TIME, flags=_CLOCK_SUSPECT)
        if clock.shift_s:
            context = {**at.context, "clock_shift_s": clock.shift_s}
            return at._replace(context=context, flags=_CLOCK_CORRECTED)
    return at


def sample_times(at: EffectiveTime, count: int, step_ns: int, path: str) -> range:
    """Times of ``count`` samples, ``step_ns`` apart: from the time on, or up to it when nothing came after it."""
    if at.clock is SourceClock.DAY:
        raise DecodeError(Reason.BAD_TIME, path)
    length = (count - 1) * step_ns
    first = at.time_ns - length if at.is_end else at.time_ns
    if first + length > LATEST_NS or first < EARLIEST_NS:
        raise DecodeError(Reason.BAD_TIME, path)
    return range(first, first + count * step_ns, step_ns)
