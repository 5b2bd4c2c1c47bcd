"""``hl7v2``: HL7 v2 ORU^R01 of devices and hubs, IHE PCD-01 (device-formats.md 6.4, interop.md 2.2). ORU^R40 and R42
are read by :mod:`ingest.adapters.hl7.alarms`.

Layout: ``MSH``, then per patient ``PID [PV1]`` and per order ``OBR`` with its ``OBX`` rows; delimiters come from MSH.
An OBX is a reading when OBX-3 names a vital: MDC by :mod:`ingest.adapters.hl7.mdc`, or LOINC, the alternate triple too,
or a local code that the sender's code map (:mod:`ingest.adapters.hl7.code_map`) knows; OBX-6 is its unit, never
assumed. A number and a name of two things give no reading but ``code_conflict``. A value under any other code is
counted in the worklist of unknown codes and rejects nothing. Rows that hold the containment tree together (device,
channel, panel) give the readings' context: device profile, equipment id, modality. Battery, status words and alert
facets are events. Text of such rows is not copied, nor any of PID, PV1, NTE.

Time: OBX-14, else OBR-7, else MSH-7. One without an offset takes that of MSH-7 (context ``zone`` = ``message``), else
it is wall time and the zone that of the device's wearer.

Identity (device-formats.md 8.4): the time as sent, and as ``seq`` a 63-bit hash of sender (MSH-3), containment path
(OBX-4) and code (OBX-3). MSH-10 is not in it: a correction (OBX-11 ``C``) or withdrawal (``D``, ``W``) comes in a
message with a number of its own and must meet the reading that it is about, while a retransmission meets itself anyway.
MSH-10 alone would make one reading of a message's many, and a reading new whenever a hub files its store again. ``seq``
is negative: it is no order, and to the clock stage positive numbers are one. A row without any time takes the receipt
time, and its ``seq`` covers the message's ordinal.

A withdrawn reading has no number (NaN, RETRACTED), so that it is a revision also when the same number is withdrawn.

A message that names two patients (PID-3) is rejected whole: it is filed under one device, which has one wearer.
The identifiers of PID-3 go with the readings to the comparison with the assignment, in memory only.
"""

import math
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, Reject, SourceClock, unit_code
from ingest.adapters.hl7 import codes
from ingest.adapters.hl7.alarms import KIND as ALARMS
from ingest.adapters.hl7.alarms import read_alarms
from ingest.adapters.hl7.codes import Coded
from ingest.adapters.hl7.mdc import METRICS, Metric, is_setting
from ingest.adapters.hl7.rows import Hl7Output, Row, collected, equipment_of, first, hashed
from ingest.adapters.hl7.segments import NULL, Document, Segment, Time, document, parse_time, time_or_none
from ingest.adapters.hl7.values import (
    SETTINGS,
    Absent,
    Choices,
    Number,
    coded_value,
    measured,
    number_of,
    numbers_in,
    quality_of,
)
from ingest.adapters.reading.urgency import most_urgent, worst_of
from ingest.files.splitting import Hl7Messages
from vitals.catalog import BY_CODE
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import DeviceEvent, Message
from vitals.units import UNIT_BY_NAME

_PATH: Final = re.compile(r"\d{1,10}(?:\.\d{1,10}){0,7}", re.ASCII)
_TEST_DATA: Final = int(Flag.TEST_DATA)
_RETRACTED: Final = int(Flag.RETRACTED)
_NOT_LIVE: Final = frozenset({"D", "T"})
"""Debugging and training (MSH-11)."""


class _Reader:
    """One message; raises ``DecodeError`` for what spoils it whole, collects ``problems`` of single rows."""

    def __init__(self, index: int, message: Message, choices: Choices, output: Hl7Output) -> None:
        self._index, self._message, self._choices, self._output = index, message, choices, output
        self._doc: Document = document(message.payload)
        self._marks, header = self._doc.delimiters, self._doc.header
        kind = self._marks.components(header.field(9))
        if not kind[0]:
            raise DecodeError(Reason.MISSING_FIELD, "MSH-9")
        if kind[:2] != ["ORU", "R01"]:
            raise DecodeError(Reason.BAD_VALUE, "MSH-9")
        self._flags = _TEST_DATA if header.field(11)[:1] in _NOT_LIVE else 0
        self._sender = "^".join(self._marks.components(header.field(3)))
        control = header.field(10)
        self._document = hashed(header.field(3), control) if control else 0
        self._sent = time_or_none(first(self._doc, header.field(7)))
        self._devices: dict[str, dict[str, str]] = {}
        self.problems: list[DecodeError] = []
        self._rows, self._strays, named = collected(self._doc)
        self._named = named if choices.checks_patient else None
        self._modalities = self._modality()

    def _modality(self) -> dict[tuple[int, str], str]:
        """(order, path of a metric) -> modality, which a facet below the metric tells."""
        found = {}
        for row in self._rows:
            coded = self._coded(row.segment)
            if coded is not None and coded.number == codes.MODALITY:
                number = codes.mdc_number(*self._marks.components(row.segment.field(5))[:2])
                modality = codes.MODALITIES.get(number or 0)
                if modality is not None:
                    found[row.order, row.segment.field(4).rpartition(".")[0]] = modality
        return found

    def _coded(self, segment: Segment) -> Coded | None:
        parts = tuple(self._marks.components(segment.field(3)))
        return self._choices.code_map.find(parts) or codes.observation(parts)

    def read(self) -> None:
        """Add every good row."""
        for row in self._rows:
            try:
                self._read(row)
            except DecodeError as problem:
                self.problems.append(DecodeError(problem.reason, f"OBX[{row.number}]-{problem.detail}"))
                self._unreadable(row.segment, problem)
        self.problems += self._strays

    def _read(self, row: Row) -> None:
        segment = row.segment
        if row.is_cut:
            raise DecodeError(Reason.TRUNCATED, "14" if segment.field(11) else "11")
        coded = self._coded(segment)
        has_value = segment.field(5) not in {"", NULL}
        if coded is None:
            if not segment.field(3):
                raise DecodeError(Reason.MISSING_FIELD, "3")
            if has_value:
                self._unknown(segment, codes.local_label(self._marks.components(segment.field(3))))
        elif coded.conflict is not None:
            if has_value:
                self._conflict(segment, coded, coded.conflict)
        elif coded.metric is not None:
            self._measured(row, coded, coded.metric)
        else:
            self._device_row(segment, coded)
            if has_value:
                self._other(segment, coded)

    def _device_row(self, segment: Segment, coded: Coded) -> None:
        """A row of the containment tree that names a device: what is below it carries its profile and id."""
        profile = codes.PROFILES.get(coded.number or 0)
        equipment = equipment_of(self._marks, segment)
        if profile or equipment:
            about = {"profile": profile, "equipment": equipment}
            self._devices[segment.field(4).partition(".")[0]] = {key: text for key, text in about.items() if text}

    def _measured(self, row: Row, coded: Coded, metric: Metric) -> None:
        segment = row.segment
        is_assumed_final = not segment.field(11) and self._choices.empty_is_final
        meaning = "value" if is_assumed_final else self._status(segment)
        if meaning is None:
            raise DecodeError(Reason.BAD_VALUE if segment.field(11) else Reason.MISSING_FIELD, "11")
        quality = quality_of(segment.field(8), self._marks, self._choices)
        self._output.unknown += quality.unknown
        unit = self._unit(segment, coded, metric)
        if unit is None and coded.number == codes.DISTANCE and segment.field(6):
            self._other(segment, coded)
            return
        value: Number | Absent
        if meaning == "retracted":
            # What was withdrawn need not be repeated, so that neither value nor unit is asked for.
            value = Number(math.nan, _RETRACTED)
        elif meaning == "absent":
            value = Absent("no_result")
        else:
            value, unit = self._value(segment, metric, unit)
        if isinstance(value, Number) and quality.absent and meaning != "retracted":
            value = Absent(quality.absent)
        if isinstance(value, Absent):
            self._event(EventKind.VALUE_ABSENT, value.reason, vital=metric.vital)
            return
        if unit is None:
            if meaning != "retracted" and not BY_CODE[metric.vital].values:
                raise DecodeError(Reason.UNKNOWN_UNIT if segment.field(6) else Reason.MISSING_FIELD, "6")
            unit = unit_code(BY_CODE[metric.vital].unit)
        flags = value.flags | metric.flags | quality.flags | self._flags
        flags |= int(Flag.ESTIMATED) if meaning == "preliminary" else 0
        status_said = {"status": "assumed_final"} if is_assumed_final else {}
        self._add(row, coded, metric, unit, value._replace(flags=flags), quality.context | status_said)

    def _status(self, segment: Segment) -> str | None:
        """What the letter of OBX-11 means, in either case."""
        return self._choices.obx11.get(segment.field(11).strip().upper())

    def _unit(self, segment: Segment, coded: Coded, metric: Metric) -> int | None:
        """The unit of OBX-6, or of the sender's code map."""
        stated = codes.unit(metric.vital, tuple(self._marks.components(segment.field(6))))
        if coded.unit is None:
            return stated
        if stated not in {None, coded.unit}:
            raise DecodeError(Reason.UNKNOWN_UNIT, "6: another unit than that of the code map")
        return coded.unit

    def _value(self, segment: Segment, metric: Metric, unit: int | None) -> tuple[Number | Absent, int | None]:
        """The value and its unit, which may stand in OBX-5 itself."""
        kind = segment.field(2)
        repetitions = self._marks.repetitions(segment.field(5))
        if any(repetitions[1:]):
            raise DecodeError(Reason.BAD_VALUE, f"5: {len(repetitions)} repetitions")
        parts = self._marks.components(repetitions[0])
        words = BY_CODE[metric.vital].values
        return (coded_value(kind, parts, words), unit) if words else measured(metric.vital, kind, parts, unit)

    def _add(self, row: Row, coded: Coded, metric: Metric, unit: int, value: Number, context: dict[str, Any]) -> None:
        segment, path = row.segment, self._marks.plain(row.segment.field(4))
        time, is_assumed = self._time(row)
        context |= metric.context
        context |= self._devices.get(path.partition(".")[0], {})
        if _PATH.fullmatch(path):
            context["path"] = path
        if equipment := equipment_of(self._marks, segment):
            context["equipment"] = equipment
        if modality := self._modalities.get((row.order, path)):
            context["modality"] = modality
        if value.text:
            context["text"] = value.text
        if is_assumed:
            context["zone"] = "message"
        source, clock, offset, salt = self._message.received_ns, SourceClock.NONE, 0, str(self._message.ordinal)
        if time is not None:
            source, clock, offset, salt = time.time_ns, time.clock, time.offset or 0, ""
        self._output.readings.add(
            self._index, metric.vital, value.value, unit, source, clock=clock,
            seq=hashed(self._sender, path, str(coded), salt), tz_min=offset, flags=value.flags, context=context,
            document=self._document, correction=self._status(segment) == "corrected", named=self._named,
        )  # fmt: skip

    def _time(self, row: Row) -> tuple[Time | None, bool]:
        """The time of a row, None when the message has none, and whether its offset is that of MSH-7."""
        own = first(self._doc, row.segment.field(14))
        try:
            time = parse_time(own or row.start) if own or row.start else self._sent
        except ValueError:
            raise DecodeError(Reason.BAD_TIME, "14" if own else f"14: OBR[{row.order}]-7") from None
        if time is None and first(self._doc, self._doc.header.field(7)):
            raise DecodeError(Reason.BAD_TIME, "14: MSH-7")
        zone = self._sent.offset if self._sent is not None else None
        if time is None or zone is None or time.clock is not SourceClock.WALL:
            return time, False
        return time.in_zone(zone), True

    # Rows that are no readings.

    def _event(self, kind: EventKind, detail: str, value: float | None = None, vital: int = 0) -> None:
        message = self._message
        self._output.events.append(
            DeviceEvent(message.device, kind, message.received_ns, detail, value, vital, message.ordinal)
        )

    def _other(self, segment: Segment, coded: Coded) -> None:
        parts = self._marks.components(self._marks.repetitions(segment.field(5))[0])
        number = codes.mdc_number(*parts[:2]) if codes.is_mdc(parts) else None
        if coded.number == codes.MODALITY and number in codes.MODALITIES:
            return
        if number == codes.NO_TIME_SYNC:
            self._event(EventKind.CLOCK_FAULT, "not_synchronised")
        elif coded.number == codes.ABSOLUTE_TIME:
            self._coincident(segment, parts[0])
        elif coded.number == self._choices.battery:
            self._battery(number_of(segment.field(2), parts))
        else:
            self._unmapped(segment, coded, parts, number)

    def _battery(self, level: Number | Absent) -> None:
        if isinstance(level, Absent):
            return
        is_known = math.isfinite(level.value)
        self._event(EventKind.BATTERY, "level" if is_known else "low", level.value if is_known else None)

    def _coincident(self, segment: Segment, shown: str) -> None:
        """The device's clock beside the hub's: how far it is ahead, in seconds."""
        hub = time_or_none(first(self._doc, segment.field(14)))
        device = time_or_none(shown)
        if hub is None or device is None:
            raise DecodeError(Reason.BAD_TIME, "5" if device is None else "14")
        zone = hub.offset if hub.offset is not None else self._sent.offset if self._sent is not None else None
        if zone is not None:
            hub, device = hub.in_zone(zone), device.in_zone(zone)
        self._event(EventKind.CONTEXT, "device_clock_ahead_s", (device.time_ns - hub.time_ns) / 1e9)

    def _unmapped(self, segment: Segment, coded: Coded, parts: list[str], number: int | None) -> None:
        """A value with no vital of its own: what the device says of itself or its settings is an event, any other code
        is one for the worklist."""
        is_status = coded.number in codes.STATUS_CODES
        if not is_status and not is_setting(coded.name):
            self._unknown(segment, coded.label)
            return
        detail, value = str(coded), self._sample(segment)
        if value is None:
            if number is not None:
                detail += f"=mdc:{number}"
            else:
                detail += f"={parts[0]}" if parts[0] in codes.ALERT_WORDS else "=(text)"
        kind = EventKind.SENSOR_STATUS if is_status else EventKind.CONTEXT
        self._event(kind, detail + (self._scale(segment) if value is not None else ""), value)

    def _unknown(self, segment: Segment, label: str) -> None:
        """A value under a code that is not known: for the worklist, with the number as a sample; no text."""
        self._output.unknown += 1
        self._event(EventKind.UNKNOWN_CODE, label + self._scale(segment), self._sample(segment))

    def _unreadable(self, segment: Segment, problem: DecodeError) -> None:
        """A vital sign of which no reading could be made: for the worklist, with the number that it may be."""
        coded = self._coded(segment)
        if coded is None or coded.metric is None or self._status(segment) in {"retracted", "absent"}:
            return
        vital = coded.metric.vital
        unit = codes.unit(vital, tuple(self._marks.components(segment.field(6))))
        value = worst_of(numbers_in(self._marks.plain(segment.field(5))), vital, unit)
        self._event(
            EventKind.UNREADABLE, f"{BY_CODE[vital].key}: {problem.reason}", value, self._judged(segment, vital)
        )

    def _judged(self, segment: Segment, vital: int) -> int:
        """The vital that a value is told under: test data says nothing of a person, so none is named."""
        is_test = (self._flags | quality_of(segment.field(8), self._marks, self._choices).flags) & _TEST_DATA
        return 0 if is_test else vital

    def _conflict(self, segment: Segment, coded: Coded, perhaps: tuple[int, ...]) -> None:
        """Number and name are those of two things: the value, in the unit of the vital of ``perhaps`` for which it is
        the most urgent, is told and not stored."""
        self._output.unknown += 1
        parts = tuple(self._marks.components(segment.field(6)))
        vital, shown = most_urgent(self._sample(segment), [(one, codes.unit(one, parts)) for one in perhaps])
        self._event(EventKind.CODE_CONFLICT, coded.label, shown, self._judged(segment, vital))

    def _sample(self, segment: Segment) -> float | None:
        """The finite number of OBX-5, None for any other value."""
        try:
            found = number_of(segment.field(2), self._marks.components(segment.field(5)))
        except DecodeError:
            return None
        return found.value if isinstance(found, Number) and math.isfinite(found.value) else None

    def _scale(self, segment: Segment) -> str:
        """The unit of OBX-6 in words, empty when it is none that is known."""
        code, name, system = [*self._marks.components(segment.field(6)), "", "", ""][:3]
        number = codes.mdc_number(code, name, system)
        if number is not None:
            return f" in mdc:{number}"
        return f" in {UNIT_BY_NAME[code].ucum}" if code in UNIT_BY_NAME else ""


def _decode(index: int, message: Message, settings: Context, output: Hl7Output) -> None:
    """Add what one message gives; raises ``DecodeError`` for its first problem, with the number of others."""
    choices = Choices.of(settings.settings)
    if read_alarms(index, message, choices, output.alarms, output.events):
        return
    reader = _Reader(index, message, choices, output)
    reader.read()
    if reader.problems:
        first, others = reader.problems[0], len(reader.problems) - 1
        raise DecodeError(first.reason, f"{first.detail}; {others} more" if others else first.detail)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of all OBX that name a vital; a message with bad rows keeps its good ones and is rejected once."""
    output = Hl7Output()
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        if message.kind not in ADAPTER.kinds:
            output.rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        try:
            _decode(index, message, context, output)
        except DecodeError as problem:
            output.rejects.append(Reject(index, problem.reason, problem.detail))
    readings = output.readings
    return Decoded(
        readings.build(),
        output.events,
        output.rejects,
        output.unknown,
        document=readings.documents(),
        correction=readings.corrections(),
        named=readings.named,
        alarms=output.alarms,
    )


ADAPTER = Adapter(
    name="hl7v2",
    version=4,
    title="HL7 v2 ORU^R01 (IHE PCD-01)",
    kinds=MappingProxyType(
        {
            "oru_r01": "one ORU^R01 message, with or without its MLLP frame",
            ALARMS: "one ORU^R40 or ORU^R42 message with alarms of the device (IHE PCD-04)",
            "": "any of these; MSH-9 decides",
        }
    ),
    vitals=frozenset(BY_CODE[metric.vital].key for metric in (*METRICS.values(), *codes.LOINC.values())),
    decode=decode,
    max_payload=255 * 1024,
    settings=SETTINGS,
    files=MappingProxyType({"oru_r01": Hl7Messages()}),
)
