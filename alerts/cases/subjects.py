"""Subjects and reports for the casebook: descriptions of conditions when they begin and end."""

from typing import Any, NamedTuple

from alerts.cases.cases import Subject
from alerts.cases.lifecycle import Report
from alerts.judging.conditions import OVERTAKEN
from alerts.judging.silence import Watch
from alerts.judging.slots import SlotTable
from alerts.judging.troubles import TroubleMove
from alerts.rules.own import plain_face
from alerts.rules.reports import describe, describe_end, limit_of, value_of, words
from alerts.rules.spec import Kind, RuleFace
from alerts.rules.words import resolves_words
from vitals.glossary import Flag, Severity
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS, NO_TIME


class Transition(NamedTuple):
    """One element of ``alerts.judging.state.Emitted`` as Python numbers."""

    slot: int
    kind: int
    at_ns: int
    time_ns: int
    value: float
    flags: int
    first_time_ns: int
    first_value: float
    first_flags: int
    first_message: int
    first_source_ns: int
    first_seq: int
    measured: float
    row: int


def slot_subject(table: SlotTable, move: Transition) -> Subject:
    """The condition of a slot that began."""
    spec, face = table.spec(move.slot), table.face(move.slot)
    return Subject(
        patient=table.token(move.slot), face=face, severity=Severity(spec.severity), spot=not spec.continuous,
        limit=_limit(table, move.slot, face), resolves=resolves_words(spec, face),
        identity=(move.first_message, spec.vital, move.first_source_ns, move.first_seq),
    )  # fmt: skip


def _limit(table: SlotTable, slot: int, face: RuleFace) -> dict[str, Any]:
    spec = table.spec(slot)
    if spec.kind == Kind.COMBINATION:
        members = [limit_of(table.spec(member)) for member in table.members(slot)]
        limit: dict[str, Any] = {"kind": "combination", "within_s": spec.window_ns / 1e9, "members": members}
    else:
        limit = limit_of(spec)
    if face.override:
        limit["override"] = face.override
    return limit


def onset_report(table: SlotTable, move: Transition, remark: str = "") -> Report:
    """The readings that a condition began on, and acted on, in words."""
    slots, spec = table.slots, table.spec(move.slot)
    if spec.kind == Kind.COMBINATION:
        members = [(table.spec(slot), slot) for slot in table.members(move.slot)]
        values = tuple(
            value_of(part.vital, int(slots.latest_time_ns[slot]), float(slots.latest_value[slot]),
                     int(slots.latest_flags[slot]))
            for part, slot in members
        )  # fmt: skip
        told = [
            describe(part, float(slots.latest_value[slot]), int(slots.latest_flags[slot]), table.measured(slot))
            for part, slot in members
        ]
        flags = [int(slots.latest_flags[slot]) for _, slot in members]
        text = f"{table.face(move.slot).title}: {'; '.join(told)}{_doubt(_any(flags))}"
        return Report(values, words(_any(flags)), f"{text}: {remark}" if remark else text)
    first = value_of(spec.vital, move.first_time_ns, move.first_value, move.first_flags)
    acted = value_of(spec.vital, move.time_ns, move.value, move.flags)
    text = describe(spec, move.value, move.flags, move.measured)
    text += _doubt(move.flags) or (_age(move.at_ns - move.time_ns) if spec.kind == Kind.LIMIT else "")
    values = (first,) if first == acted else (first, acted)
    return Report(values, words(move.first_flags | move.flags), f"{text}: {remark}" if remark else text)


def review_reason(move: Transition) -> str:
    """Why a severe value did not page."""
    if move.kind == OVERTAKEN:
        return "a newer value was known when it came, so it does not page by itself"
    if move.flags & (Flag.LATE | Flag.REPLAYED):
        return "it came too late to page"
    if move.flags & Flag.CLOCK_SUSPECT:
        return "nobody knows when it was measured, so it does not page"
    return "it is no single current value, so it does not page"


def end_report(table: SlotTable, move: Transition, remark: str) -> Report:
    """The reading that ended a condition."""
    spec = table.spec(move.slot)
    if spec.kind == Kind.COMBINATION:
        return Report((), (), f"{table.face(move.slot).title}: {remark}")
    end = value_of(spec.vital, move.time_ns, move.value, move.flags)
    return Report((end,), words(move.flags), describe_end(spec, move.value, move.flags, move.measured, remark))


def _age(age_ns: int) -> str:
    """What the text adds where the value is older than a minute."""
    for unit_ns, unit in ((DAY_NS, "days"), (HOUR_NS, "hours"), (MINUTE_NS, "minutes")):
        if age_ns >= 2 * unit_ns:
            return f", {age_ns // unit_ns} {unit} old"
    return ", 1 minute old" if age_ns > MINUTE_NS else ""


def _doubt(flags: int) -> str:
    """What the text adds where the time is not certain."""
    return ", device clock wrong" if flags & (Flag.CLOCK_WRONG | Flag.CLOCK_SUSPECT) else ""


def _any(flags: list[int]) -> int:
    out = 0
    for flag in flags:
        out |= flag
    return out


def silence_subject(watch: Watch) -> Subject:
    """A window that elapsed with no reading."""
    return Subject(
        patient=watch.patient, face=watch.face, severity=Severity(watch.severity), spot=False, limit={},
        resolves="readings come again", identity=(-1, watch.vital, watch.deadline_ns, watch.episode),
    )  # fmt: skip


def silence_report(watch: Watch) -> Report:
    """What was last heard."""
    seen = watch.time_ns != NO_TIME
    values = (value_of(watch.vital, watch.time_ns, watch.value, watch.flags),) if seen else ()
    return Report(values, words(watch.flags), watch.face.title)


def site_subject(
    rule: str, title: str, identity: tuple[int, int, int, int], severity: Severity = Severity.S3, *,
    technical: bool = True,
) -> Subject:  # fmt: skip
    """A trouble that is nobody's: of the system, the site, or of readings that belong to nobody yet. Each is an
    incident of its own: one must not keep another from paging."""
    face = plain_face(rule, 0, title, rule, severity, technical=technical)
    return Subject(
        patient="", face=face, severity=severity, spot=False, limit={}, resolves="", identity=identity
    )  # fmt: skip


def trouble_subject(move: TroubleMove) -> Subject:
    """A trouble of a device that began."""
    return Subject(
        patient=move.patient, face=move.rule.face, severity=Severity(move.rule.severity), spot=False, limit={},
        identity=(move.message, move.vital, move.since_ns, move.number), resolves="the device says so",
    )  # fmt: skip
