"""One FHIR R4 Observation to readings and events (device-formats.md 4.1, 4.5; interop.md 1.1, 1.2)."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from ingest.adapter import ReadingsBuilder, SourceClock
from ingest.adapters.fhir import beside, codes, times, values
from ingest.adapters.fhir.beside import ObservationQuality
from ingest.adapters.fhir.codes import Coding, Meaning, Node, member, required
from ingest.adapters.fhir.conflicts import conflict
from ingest.adapters.fhir.statuses import STATUSES, ObservationStatus
from ingest.adapters.fhir.subject import named_patient
from ingest.adapters.fhir.times import Coincident, EffectiveTime
from ingest.adapters.fhir.values import DataAbsent, Samples, Value
from vitals.catalog import BY_CODE
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import DeviceEvent, Message
from vitals.records import NamedPatient
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE, to_canonical

_RETRACTED: Final = int(Flag.RETRACTED)
_ESTIMATED: Final = int(Flag.ESTIMATED)
_TEST_DATA: Final = int(Flag.TEST_DATA)
_NAN: Final = float("nan")
_T = TypeVar("_T")
_ENTRIES: Final = 4096
"""More than a Bundle within ``max_payload`` can have."""
_PHD_IDENTIFIER: Final = "http://hl7.org/fhir/uv/phd/StructureDefinition/PhdBaseObservation"
_TEMPERATURE_SITE: Final = (codes.LOINC, "8327-9")


@dataclass(slots=True)
class ObservationSource:
    """The message that is read, the device's settings, and where in it the Observation stands."""

    index: int
    message: Message
    tokens: str
    status_code: str
    entry: int = 0
    prefix: str = ""
    clocks: Mapping[str, Coincident] = field(default_factory=dict)
    checks_patient: bool = True
    patients: Mapping[str, Node] = field(default_factory=dict)


@dataclass(slots=True)
class ObservationOutput:
    """What a micro-batch gives; ``problems`` are those of one message, ``ignored`` counts what was passed over,
    ``left_out`` members that only add to a value and cannot be read."""

    readings: ReadingsBuilder = field(default_factory=ReadingsBuilder)
    events: list[DeviceEvent] = field(default_factory=list)
    problems: list[DecodeError] = field(default_factory=list)
    ignored: int = 0
    left_out: int = 0

    def aside(self, read: Callable[..., _T], *of: Any) -> _T | None:
        """What ``read(*of)`` finds in a member that only adds to a value; None, and counted, when it cannot be read."""
        try:
            return read(*of)
        except DecodeError:
            self.left_out += 1
            return None


@dataclass(slots=True)
class _Measurement:
    """What the values of one Observation have in common; ``vitals`` are those that it has given."""

    source: ObservationSource
    out: ObservationOutput
    status: str
    rule: ObservationStatus
    at: EffectiveTime
    seq: int
    document: int
    flags: int
    quality: ObservationQuality
    context: dict[str, Any]
    named: NamedPatient | None
    vitals: set[int] = field(default_factory=set)


def _seq(values_given: list[tuple[str, str]], source: ObservationSource, at: EffectiveTime) -> int:
    """Below 0 for an identifier: records of a wall clock that count from 0 are ordered by their number, hashes are
    not."""
    if values_given:
        return _hashed(*next((one for one in values_given if one[0] == _PHD_IDENTIFIER), values_given[0]))
    return source.message.ordinal * _ENTRIES + source.entry if at.clock is SourceClock.NONE else 0


def _hashed(*parts: str) -> int:
    digest = hashlib.blake2b("|".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def _document(resource: Node, source: ObservationSource, seq: int) -> int:
    """What tells two measurements of one time apart where no identifier does: the resource's id, else the message and
    the place in it."""
    if seq:
        return 0
    own, message = resource.get("id"), source.message
    if own and isinstance(own, str):
        return _hashed(message.device, own)
    return _hashed(str(message.ordinal), str(source.entry)) if source.entry else message.ordinal


def _begin(resource: Node, source: ObservationSource, out: ObservationOutput) -> _Measurement:
    """Status, time, identity and quality of an Observation."""
    prefix = source.prefix
    status = required(resource, "status", str, prefix)
    rule = STATUSES.get(status)
    if rule is None:
        raise DecodeError(Reason.BAD_VALUE, f"{prefix}status")
    at = times.when(resource, prefix, source.message.received_ns)
    if "derivedFrom" in resource:
        references = out.aside(times.references, resource, prefix) or ()
        at = times.checked(at, [source.clocks[one] for one in references if one in source.clocks])
    if rule.flags & _RETRACTED and at.clock is SourceClock.NONE:
        # Nothing tells which reading is meant.
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}effective[x]")
    context: dict[str, Any] = dict(at.context)
    if rule.is_noted:
        context["status"] = status
    is_test = out.aside(beside.is_test, resource, prefix)
    flags = rule.flags | at.flags | (_TEST_DATA if is_test else 0)
    context |= out.aside(beside.coded, resource, "bodySite", "body_site", prefix) or {}
    context |= out.aside(beside.coded, resource, "method", "method", prefix) or {}
    quality = out.aside(beside.quality, resource, prefix, source.status_code) or ObservationQuality()
    seq = _seq(out.aside(beside.identifiers, resource, prefix) or [], source, at)
    document = _document(resource, source, seq)
    named = out.aside(named_patient, resource, prefix, source.patients) if source.checks_patient else None
    return _Measurement(source, out, status, rule, at, seq, document, flags, quality, context, named)


def _note(found: list[Coding], node: Node, prefix: str, measurement: _Measurement) -> None:
    """Keep a value of no vital with the readings beside it, or count it as ignored."""
    name = "site" if _TEMPERATURE_SITE in found else codes.safe(found)
    value = values.other(node, prefix)
    if any(code in codes.SUPPLEMENTAL_TYPES for _, code in found):
        types = codes.codings(node, "valueCodeableConcept", prefix)
        modality = next((codes.MODALITIES[code] for _, code in types if code in codes.MODALITIES), None)
        if modality is not None:
            name, value = "modality", modality
    if isinstance(value, bool):
        quality, status_code = measurement.quality, measurement.source.status_code
        if any(beside.note_bit(coding, value, quality, status_code) for coding in found):
            return
    if name is None or value is None:
        measurement.out.ignored += 1
    else:
        measurement.context[name] = value


def _aside(found: list[Coding], node: Node, prefix: str, measurement: _Measurement) -> None:
    """Keep a value of no vital with the readings beside it where it can be read."""
    measurement.out.aside(_note, found, node, prefix, measurement)


def _conflict(
    found: list[Coding], perhaps: tuple[int, ...], node: Node, prefix: str, measurement: _Measurement
) -> None:
    """A value whose codings name two vital signs; what was withdrawn is none."""
    measurement.out.ignored += 1
    if not measurement.rule.flags & _RETRACTED:
        is_test = bool(measurement.flags & _TEST_DATA)
        event = conflict(found, perhaps, node, prefix, measurement.source.message, is_test=is_test)
        measurement.out.events.append(event)


def _unknown(found: list[Coding], resource: Node, measurement: _Measurement) -> None:
    """An Observation of no vital sign: counted, and a number is told on the worklist by its code, if that is public."""
    source, out = measurement.source, measurement.out
    out.ignored += 1
    name = codes.safe(found) or "code of no public system"
    value = out.aside(values.other, resource, source.prefix)
    if isinstance(value, dict):
        _tell(source, out, EventKind.UNKNOWN_CODE, f"{name} {value.get('unit', '')}".strip(),
              source.message.received_ns, value["value"])  # fmt: skip


def _tell(source: ObservationSource, out: ObservationOutput, kind: EventKind, detail: str, time_ns: int,
          value: float | None = None, vital: int = 0) -> None:  # fmt: skip
    out.events.append(
        DeviceEvent(source.message.device, kind, time_ns, detail, value, vital=vital, message=source.message.ordinal)
    )


def _event(
    measurement: _Measurement, detail: str, vital: int, found: Value | None = None, at_ns: int = NO_TIME
) -> None:
    """A value that is absent, or not to be alerted on: its number, canonical, is told with the event.

    It is told at its own instant where one is known, else at receipt.
    """
    value = None
    if found is not None and not math.isnan(found.value):
        value = float(to_canonical(found.value, UNIT_BY_CODE[found.unit].ucum, BY_CODE[vital].unit))
    time_ns = measurement.source.message.received_ns
    if measurement.at.clock is SourceClock.INSTANT:
        time_ns = measurement.at.time_ns if at_ns == NO_TIME else at_ns
    _tell(measurement.source, measurement.out, EventKind.VALUE_ABSENT, detail, time_ns, value, vital)


def _found(node: Node, vital: int, prefix: str, measurement: _Measurement) -> Value | Samples | DataAbsent:
    """What a node says; a retraction needs no value, and what is registered need not have one yet."""
    is_retracted = measurement.rule.flags & _RETRACTED
    found = None
    try:
        found = values.value(node, vital, prefix, measurement.source.tokens)
    except DecodeError:
        if not is_retracted:
            raise
    if is_retracted and not isinstance(found, Value | Samples):
        return Value(_NAN, codes.CANONICAL[vital])
    if found is not None:
        return found
    if measurement.rule.is_withheld:
        return DataAbsent(f"status_{measurement.status}")
    raise DecodeError(Reason.MISSING_FIELD, f"{prefix}value[x]")


def _add(node: Node, meaning: Meaning, prefix: str, own: ObservationQuality, measurement: _Measurement) -> None:
    """The readings or events of an Observation's own value or of a component."""
    vital = meaning.vital
    if vital in measurement.vitals:
        # The two would share one identity (rule obs-7 for the main code).
        raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"{prefix}code")
    found = _found(node, vital, prefix, measurement)
    whole = measurement.quality
    context = {**measurement.context, **meaning.context}
    if own.words:
        context["interpretation"] = ",".join(own.words)
    bits, absent = (own.bits, own.absent) if own is whole else (whole.bits + own.bits, whole.absent + own.absent)
    if bits:
        context["measurement_status"] = ",".join(bits)
    flags = measurement.flags | meaning.flags | whole.flags | own.flags | own.sides
    why = ""
    if measurement.rule.is_withheld:
        why = f"status_{measurement.status}"
    elif absent and not flags & _RETRACTED:
        why = ",".join(absent)
    if isinstance(found, Samples):
        _add_samples(found, vital, prefix, flags, why, context, measurement)
    elif isinstance(found, DataAbsent):
        _event(measurement, found.reason, vital)
    elif why:
        _event(measurement, why, vital, found)
    else:
        at = measurement.at
        measurement.out.readings.add(
            measurement.source.index, vital, found.value, found.unit, at.time_ns, clock=at.clock, seq=measurement.seq,
            ended_ns=at.ended_ns, tz_min=at.tz_min, flags=flags | found.flags, context=context,
            document=measurement.document, correction=measurement.rule.is_correction, named=measurement.named,
        )  # fmt: skip
    measurement.vitals.add(vital)


def _add_samples(samples: Samples, vital: int, prefix: str, flags: int, why: str, context: dict[str, Any],
                 measurement: _Measurement) -> None:  # fmt: skip
    at = measurement.at
    moments = times.sample_times(at, samples.size, samples.step_ns, f"{prefix}valueSampledData")
    if samples.errors:
        _event(measurement, f"error in {samples.errors} of {samples.size} samples", vital)
    limited = {**context, **samples.limits}
    flags |= _ESTIMATED if at.is_end else 0
    for place, value, side in samples.values:
        if why:
            _event(measurement, why, vital, Value(value, samples.unit), moments[place])
            continue
        measurement.out.readings.add(
            measurement.source.index, vital, value, samples.unit, moments[place], clock=at.clock, seq=measurement.seq,
            tz_min=at.tz_min, flags=flags | side, context=limited if side else context,
            document=measurement.document, correction=measurement.rule.is_correction, named=measurement.named,
        )  # fmt: skip


def _components(resource: Node, measurement: _Measurement) -> list[tuple[Node, Meaning, str]]:
    """(component, meaning, prefix) of those that name a vital sign; the others are noted, bad ones are problems."""
    known = []
    for number, component in enumerate(member(resource, "component", list, measurement.source.prefix) or ()):
        prefix = f"{measurement.source.prefix}component[{number}]."
        try:
            if not isinstance(component, dict):
                raise DecodeError(Reason.BAD_TYPE, prefix[:-1])
            found = codes.codings_of(required(component, "code", dict, prefix), f"{prefix}code.")
            meaning = codes.meaning(found)
            if perhaps := codes.conflicting(found):
                _conflict(found, perhaps, component, prefix, measurement)
            elif meaning is None:
                _aside(found, component, prefix, measurement)
            else:
                known.append((component, meaning, prefix))
        except DecodeError as problem:
            measurement.out.problems.append(problem)
    return known


def _add_main(resource: Node, found: list[Coding], main: Meaning | None, has_parts: bool,
              measurement: _Measurement) -> None:  # fmt: skip
    """The Observation's own value; ``has_parts``: components, or members elsewhere, may stand for it."""
    prefix = measurement.source.prefix
    has_value = "dataAbsentReason" in resource or values.value_name(resource, prefix) is not None
    if perhaps := codes.conflicting(found):
        _conflict(found, perhaps, resource, prefix, measurement)
        return
    if main is None:
        if not has_parts:
            _unknown(found, resource, measurement)
        elif has_value:
            _aside(found, resource, prefix, measurement)
        return
    is_retracted = measurement.rule.flags & _RETRACTED
    if main.vital not in codes.PANELS:
        if has_value or is_retracted or not has_parts:
            _add(resource, main, prefix, measurement.quality, measurement)
    elif is_retracted and not has_parts:
        for vital in codes.PANELS[main.vital]:
            _add({}, Meaning(vital), prefix, measurement.quality, measurement)
    elif has_value or (measurement.rule.is_withheld and not has_parts):
        _add(resource, main, prefix, measurement.quality, measurement)
    elif not has_parts:
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}component")


def _add_clock(resource: Node, source: ObservationSource, out: ObservationOutput) -> None:
    """A coincident time stamp is told as an event, whether or not measurements refer to it."""
    clock = times.coincident(resource, source.prefix)
    received_ns = source.message.received_ns
    if clock.is_fault:
        _tell(source, out, EventKind.CLOCK_FAULT, "device_time_unknown", received_ns)
    elif clock.shift_s is not None:
        _tell(source, out, EventKind.CONTEXT, "clock_shift_s", received_ns, clock.shift_s)


def _add_battery(resource: Node, source: ObservationSource, out: ObservationOutput) -> None:
    """A level of the battery is an event of the device."""
    if required(resource, "status", str, source.prefix) in {"entered-in-error", "cancelled"}:
        return
    at = times.when(resource, source.prefix, source.message.received_ns)
    time_ns = at.time_ns if at.clock is SourceClock.INSTANT else source.message.received_ns
    _tell(source, out, EventKind.BATTERY, "", time_ns, values.percent(resource, source.prefix))


def _add_contained(resource: Node, source: ObservationSource, out: ObservationOutput) -> None:
    """Members of a panel that stand in the panel itself; what they do not say of time and status is the panel's."""
    members = {node.get("reference") for node in codes.objects(resource, "hasMember", source.prefix)}
    shared = {name: value for name, value in resource.items() if name == "status" or name.startswith("effective")}
    for number, inner in enumerate(codes.objects(resource, "contained", source.prefix)):
        if inner.get("resourceType") != "Observation" or f"#{inner.get('id')}" not in members:
            continue
        has_time = any(name.startswith("effective") for name in inner)
        given = {"status": shared.get("status")} if has_time else shared
        place = replace(source, prefix=f"{source.prefix}contained[{number}].")
        try:
            add_observation({**given, **inner}, place, out)
        except DecodeError as problem:
            out.problems.append(problem)


def add_observation(resource: Node, source: ObservationSource, out: ObservationOutput) -> None:
    """Everything that an Observation gives; bad components are noted in ``out.problems``.

    Raises:
        DecodeError: the Observation as a whole, or its own value, cannot be read.
    """
    prefix = source.prefix
    found = codes.codings_of(required(resource, "code", dict, prefix), f"{prefix}code.")
    if not codes.COINCIDENT.isdisjoint(found):
        _add_clock(resource, source, out)
        return
    if not codes.BATTERY.isdisjoint(found):
        _add_battery(resource, source, out)
        return
    measurement = _begin(resource, source, out)
    before = len(out.problems)
    parts = _components(resource, measurement)
    main = codes.meaning(found)
    has_parts = bool(parts) or "hasMember" in resource or len(out.problems) > before
    try:
        _add_main(resource, found, main, has_parts, measurement)
    except DecodeError as problem:
        out.problems.append(problem)
    if "hasMember" in resource and "contained" in resource:
        _add_contained(resource, source, out)
    is_panel = main is not None and main.vital in codes.PANELS
    for component, meaning, inner in parts:
        try:
            own = out.aside(beside.quality, component, inner, source.status_code) or ObservationQuality()
            if is_panel and not own.words:
                own.words = measurement.quality.words
            _add(component, meaning, inner, own, measurement)
        except DecodeError as problem:
            out.problems.append(problem)
