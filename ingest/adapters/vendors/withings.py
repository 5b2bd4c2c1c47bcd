"""``withings``: answers of getmeas, groups of measures (device-formats.md 5.3).

A measure is ``value`` x 10^``unit``: 74126 and -3 are 74.126. Of groups only category 1 is measured, 2 are goals and
give nothing. ``attrib`` says who was measured: 1, more than one user could have been, rejects the group as
``owner_ambiguous`` unless the setting of that name says that only one person uses the device; 2 and 4 were typed.
Pulse is that of the cuff beside a blood pressure, that of the oximeter beside SpO2, else a heart rate. Measures of
known types without a vital are events, unknown types are counted. ``body.timezone`` is the profile's, not the
measurement's: ``date`` is UTC and nothing is applied to it.

Identity (device-formats.md 8.4): ``date`` and ``seq`` = ``grpid``. A corrected group comes again under both;
``modified`` is ``context["changed_ms"]``. A group with ``deleted`` is withdrawn: its readings, or one without a number
for each vital when it lists no measures.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from ingest.adapter import Context, Decoded, unit_code, vital_code
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, epoch_ms, whole
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason
from vitals.model import Message

_SYS: Final = 10
_DIA: Final = 9
_PULSE: Final = 11
_SPO2: Final = 54
_TYPES: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        kind: (vital_code(vital), unit_code(unit))
        for kind, vital, unit in (
            (1, "weight", "kg"), (4, "height", "m"), (6, "body_fat", "%"), (_DIA, "bp_dia", "mm[Hg]"),
            (_SYS, "bp_sys", "mm[Hg]"), (_PULSE, "heart_rate", "/min"), (_SPO2, "spo2", "%"), (71, "temp", "Cel"),
        )
    }
)  # fmt: skip
_PULSE_RATE: Final = vital_code("pulse_rate")
_PULSE_RATE_NIBP: Final = vital_code("pulse_rate_nibp")
_PER_MIN: Final = unit_code("/min")
_RETRACTABLE: Final = (*_TYPES.values(), (_PULSE_RATE, _PER_MIN), (_PULSE_RATE_NIBP, _PER_MIN))
_OTHER_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        5: "fat_free_mass_kg", 8: "fat_mass_kg", 12: "temperature_cel", 73: "skin_temperature_cel",
        76: "muscle_mass_kg", 77: "hydration_kg", 88: "bone_mass_kg", 91: "pulse_wave_velocity_m_s", 123: "vo2_max",
        130: "af_class_ecg", 135: "qrs", 136: "pr", 137: "qt", 138: "corrected_qt", 139: "af_ppg", 155: "vascular_age",
        167: "nerve_health", 168: "extracellular_water", 169: "intracellular_water", 170: "visceral_fat",
        173: "segmental_173", 174: "segmental_174", 175: "segmental_175", 196: "electrodermal",
        226: "basal_metabolic_rate", 227: "metabolic_age", 229: "sweat_conductance",
    }
)  # fmt: skip
_AMBIGUOUS: Final = 1
_ATTRIBS: Final[Mapping[int, tuple[int, str | None]]] = MappingProxyType(
    {
        0: (0, None),
        _AMBIGUOUS: (0, "ambiguous_owner"),
        2: (records.MANUAL, None),
        4: (records.MANUAL, "account_creation"),
        5: (0, "best_of"),
        7: (0, "confirmed"),
        8: (0, None),
        15: (0, "guided"),
    }
)
_MEASURED: Final = 1
_GOAL: Final = 2
_MAX_EXPONENT: Final = 20
_POWERS: Final = tuple(10**exponent for exponent in range(_MAX_EXPONENT + 1))


class _Answer(msgspec.Struct, gc=False):
    status: int
    body: Any = None


class _Body(msgspec.Struct, gc=False):
    measuregrps: list[Any]
    updatetime: int | None = None
    timezone: str | None = None
    more: int | None = None
    offset: int | None = None


class _Group(msgspec.Struct, gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"measures", "deleted"})
    grpid: int
    date: int
    attrib: int
    category: int
    measures: list[Any] = []
    created: int | None = None
    modified: int | None = None
    deleted: bool | int | None = None
    deviceid: str | None = None
    hash_deviceid: str | None = None
    model: str | int | None = None
    modelid: int | None = None
    comment: str | None = None


class _Measure(msgspec.Struct, gc=False):
    value: int
    type: int
    unit: int
    algo: int | None = None
    fm: int | None = None
    position: int | None = None


def _number(measure: _Measure) -> float:
    """``value`` x 10^``unit``, the float nearest to the decimal number."""
    value, exponent = whole(measure.value, ".value"), measure.unit
    if abs(exponent) > _MAX_EXPONENT:
        raise DecodeError(Reason.BAD_VALUE, ".unit")
    return value / _POWERS[-exponent] if exponent < 0 else float(value * _POWERS[exponent])


def _seconds(time_s: int, member: str) -> int:
    return epoch_ms(time_s * 1_000, member)


def _context(group: _Group, attrib: str | None, output: RecordOutput) -> dict[str, Any]:
    context: dict[str, Any] = {}
    if attrib is not None:
        context["attrib"] = attrib
    for name, time_s, member in (
        ("created_ms", group.created, ".created"),
        ("changed_ms", group.modified, ".modified"),
    ):
        told_ns = output.aside(time_s, member, _seconds)
        if told_ns is not None:
            context[name] = told_ns // 1_000_000
    source = group.hash_deviceid or group.deviceid
    if source is not None:
        context["source"] = records.token(output.message.device, source)
    model = output.aside(group.modelid, ".modelid", whole)
    if model is not None:
        context["model"] = model
    records.note(group.comment, context, output)
    return context


class _Measures:
    """Collects the good measures of one group, by type."""

    def __init__(self, output: RecordOutput, time_ns: int) -> None:
        self._output, self._time_ns = output, time_ns
        self.by_type: dict[int, tuple[float, dict[str, int]]] = {}
        self._repeated: set[int] = set()

    def take(self, measure: _Measure) -> None:
        number = _number(measure)
        if measure.type in _TYPES:
            found = {
                name: self._output.aside(value, f".{name}", whole)
                for name, value in (("algo", measure.algo), ("fm", measure.fm), ("position", measure.position))
            }
            details = {name: value for name, value in found.items() if value is not None}
            if measure.type in self._repeated or self.by_type.pop(measure.type, None) is not None:
                # Two values of one type at one time: which of them was measured is a guess.
                self._repeated.add(measure.type)
                raise DecodeError(Reason.BAD_VALUE, ".type: a type is given twice")
            self.by_type[measure.type] = (number, details)
        elif measure.type in _OTHER_TYPES:
            self._output.event(EventKind.CONTEXT, _OTHER_TYPES[measure.type], self._time_ns, value=number)
        else:
            self._output.unknown += 1


def _series(kind: int, present: Mapping[int, object]) -> tuple[int, int]:
    """Vital and unit of a type; a pulse is named by what was measured with it."""
    if kind == _PULSE and (_SYS in present or _DIA in present):
        return _PULSE_RATE_NIBP, _PER_MIN
    if kind == _PULSE and _SPO2 in present:
        return _PULSE_RATE, _PER_MIN
    return _TYPES[kind]


def _add(group: _Group, output: RecordOutput) -> None:
    if group.category == _GOAL:
        return
    if group.category != _MEASURED:
        raise DecodeError(Reason.BAD_VALUE, ".category")
    if group.attrib not in _ATTRIBS:
        raise DecodeError(Reason.BAD_VALUE, ".attrib")
    if group.attrib == _AMBIGUOUS and not output.choice("ambiguous_owner", {"reject": False, "accept": True}, "reject"):
        raise DecodeError(Reason.OWNER_AMBIGUOUS, ".attrib")
    flags, attrib = _ATTRIBS[group.attrib]
    time_ns, seq = _seconds(group.date, ".date"), whole(group.grpid, ".grpid")
    context = _context(group, attrib, output)
    created_ms = context.get("created_ms")
    if created_ms is not None and time_ns - created_ms * 1_000_000 > records.TOLERANCE_NS:
        flags |= records.CLOCK_SUSPECT
        output.event(EventKind.CLOCK_FAULT, "measured_after_upload")
    measures = _Measures(output, time_ns)
    output.each(group.measures, ".measures", _Measure, measures.take)
    if group.deleted:
        flags |= records.RETRACTED
        if not group.measures:
            for vital, unit in _RETRACTABLE:
                output.add(vital, records.NO_NUMBER, unit, time_ns, seq=seq, flags=flags, context=context)
    for kind, (value, details) in measures.by_type.items():
        vital, unit = _series(kind, measures.by_type)
        output.add(vital, value, unit, time_ns, seq=seq, flags=flags, context={**context, **details})


def _read(content: Any, output: RecordOutput) -> None:
    answer = output.typed(content, _Answer)
    if answer.status != 0:
        raise DecodeError(Reason.BAD_VALUE, ".status")
    body = output.typed(answer.body, _Body, ".body")
    output.each(body.measuregrps, ".body.measuregrps", _Group, lambda group: _add(group, output))


_READERS: Final = MappingProxyType({"getmeas": _read, "": _read})


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings in kg, m, mm[Hg], % and Cel; events for measures that have no vital of their own."""
    return records.decode_each(messages, contexts, _READERS)


ADAPTER = records.adapter(
    "withings",
    "Withings",
    dict.fromkeys(_READERS, "answer of measure, action getmeas"),
    frozenset(
        {"weight", "height", "body_fat", "bp_dia", "bp_sys", "heart_rate", "pulse_rate", "pulse_rate_nibp", "spo2",
         "temp"}
    ),
    decode,
    {
        "ambiguous_owner": "groups of which the vendor cannot tell the user: reject (default), or accept where one "
        "person alone uses the device",
        **records.NOTE_SETTING,
    },
    {"getmeas": JsonRecords(("body", "measuregrps"), array=False)},
    version=2,
)  # fmt: skip
