"""Bluetooth CGM Measurement 0x2AA7 and Session Start Time 0x2AAA: continuous glucose sensors (device-formats.md 2.4).

A value holds one or more records: size u8, flags u8, glucose SFLOAT mg/dL, time offset u16 min since the session began,
[status octets], [trend SFLOAT mg/dL per min], [quality SFLOAT %], [E2E-CRC u16]. A bad record is skipped by its size; a
size that cannot be right ends the value. The records before and after it are kept, the message is rejected.

Identity (device-formats.md 8.4): session start plus offset, with the offset as ``seq``. The session start is that of a
2AAA value in the same envelope, else the setting ``session_start``; one without a zone makes wall time. Offsets begin
anew in each session, so without a session start the time is not guessed: such a record has an order (``session_min`` in
its context) but no instant, clock STORED, and the number of its place in the message. Only where the setting
``without_session_start`` says that the hub passes on live values alone is the newest record of a value taken for its
arrival, and each older one for so many minutes before.
"""

import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from ingest.adapters.ble.medfloat import SFLOAT, SFLOAT_SPECIALS
from ingest.adapters.reading.timestamps import parse_time
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import Message
from vitals.times import MINUTE_NS, SECOND_NS

CGM_MEASUREMENT: Final = 0x2AA7
SESSION_START: Final = 0x2AAA
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "status_order": "order of the status octets: `status_first` (status, calibration and temperature, warning; the"
        " default) or `warning_first` (warning, calibration and temperature, status)",
        "e2e_crc": "checksum of each record: `auto` (checked when the size has room for it, the default), `required` or"
        " `none`",
        "session_start": "when the session began, RFC 3339; without an offset it is wall time. To be set anew for each"
        " session; a Session Start Time in the same envelope comes before it",
        "without_session_start": "what a record without a session start means: `hold` (its order is known, its time is"
        " not, the default) or `arrival` (the newest of a value is live: right only for hubs that never send stored"
        " records)",
    }
)
_RESERVED: Final = 0x1C
_SIZE: Final = tuple(
    6 + 2 * (f & 1) + 2 * (f >> 1 & 1) + (f >> 5 & 1) + (f >> 6 & 1) + (f >> 7 & 1) for f in range(256)
)  # fmt: skip
_CRC_SIZE: Final = 2
_GLUCOSE: Final = vital_code("glucose_isf")
_MG_DL: Final = unit_code("mg/dL")

_LOW_QUALITY: Final = int(Flag.LOW_QUALITY)
_SENSOR_FAULT: Final = int(Flag.SENSOR_FAULT)
_CLOCK_SUSPECT: Final = int(Flag.CLOCK_SUSPECT)
_ESTIMATED: Final = int(Flag.ESTIMATED)


class _Octet(NamedTuple):
    """One status octet: its flag bit, the context key, and per value the names, flags and names worth an event."""

    bit: int
    key: str
    names: tuple[str, ...]
    flags: tuple[int, ...]
    events: tuple[str, ...]


def _octet(bit: int, key: str, names: Sequence[str], flags: Mapping[int, int], events: Sequence[int]) -> _Octet:
    named = {number: names[number] if number < len(names) else f"reserved_{number}" for number in range(8)}
    told = {number: names[number] for number in events}
    return _Octet(
        bit, key,
        tuple(gatt.bit_names(value, named) for value in range(256)),
        tuple(gatt.bit_flags(value, flags) for value in range(256)),
        tuple(gatt.bit_names(value, told) for value in range(256)),
    )  # fmt: skip


_STATUS: Final = _octet(
    0x80, "status",
    ("session_stopped", "battery_low", "sensor_type_incorrect", "sensor_malfunction", "device_specific_alert",
     "general_device_fault"),
    {0: _LOW_QUALITY, 2: _SENSOR_FAULT, 3: _SENSOR_FAULT, 5: _SENSOR_FAULT},
    (0, 2, 3, 4, 5),
)  # fmt: skip
_CALIBRATION: Final = _octet(
    0x40, "calibration",
    ("time_sync_required", "calibration_not_allowed", "calibration_recommended", "calibration_required",
     "sensor_temperature_too_high", "sensor_temperature_too_low", "calibration_pending"),
    {0: _CLOCK_SUSPECT, 3: _LOW_QUALITY, 4: _LOW_QUALITY, 5: _LOW_QUALITY},
    (3, 4, 5),
)  # fmt: skip
_WARNING: Final = _octet(
    0x20, "warning",
    ("below_patient_low", "above_patient_high", "below_hypo", "above_hyper", "falling_fast", "rising_fast",
     "below_device_range", "above_device_range"),
    {6: gatt.BELOW_RANGE, 7: gatt.ABOVE_RANGE},
    (),
)  # fmt: skip
_ORDERS: Final = MappingProxyType(
    {
        "status_first": (_STATUS, _CALIBRATION, _WARNING),
        "warning_first": (_WARNING, _CALIBRATION, _STATUS),
    }
)
_BATTERY_LOW: Final = 1 << 1
_BATTERY: Final = EventKind.BATTERY
_FLOATS: Final = ((0x01, "trend_mg_dl_min"), (0x02, "quality_percent"))
_WARNS_LOW: Final = 1 << 0 | 1 << 2
_WARNS_HIGH: Final = 1 << 1 | 1 << 3
_SURELY_HIGH: Final = 240.0
_SURELY_LOW: Final = 70.0
"""mg/dL; a low warning with a value this high, or the reverse, says that the octets are read in the wrong order."""

_MIRRORED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def crc(data: bytes) -> int:
    """E2E-CRC (CRC-16/MCRF4XX): 0x6F91 over ``123456789``.

    The library has the same polynomial with the bits of each byte, and of the result, the other way round.
    """
    mirrored = binascii.crc_hqx(data.translate(_MIRRORED), 0xFFFF)
    return _MIRRORED[mirrored & 0xFF] << 8 | _MIRRORED[mirrored >> 8]


class _Session(NamedTuple):
    """When a session began: UTC, or on clock WALL wall time read as UTC."""

    start_ns: int
    clock: SourceClock
    tz_min: int


_DST_MIN: Final = MappingProxyType({0: 0, 2: 30, 4: 60, 8: 120})
_ZONE_STEP_MIN: Final = 15


_SESSION_SIZE: Final = 9


def _fits_session(payload: bytes) -> bool:
    return len(payload) in (_SESSION_SIZE, _SESSION_SIZE + _CRC_SIZE)


def _session_problem(payload: bytes) -> DecodeError | None:
    if not _fits_session(payload):
        return gatt.wrong_length(payload, _SESSION_SIZE, 0)
    if len(payload) > _SESSION_SIZE and crc(payload[:_SESSION_SIZE]) != gatt.word(payload, _SESSION_SIZE):
        return DecodeError(Reason.BAD_CHECKSUM, f"at byte {_SESSION_SIZE}")
    return None


def _session_start(payload: bytes) -> _Session | None:
    """Session Start Time: Date Time, time zone s8 in steps of 15 min, DST offset u8, [E2E-CRC]; None for an unknown
    date. Worked: ``E8 07 03 0A 06 00 00 EC 04`` is 2024-03-10T10:00:00Z."""
    wall_ns = gatt.date_time(payload, 0)
    if wall_ns is None:
        return None
    steps, dst = int.from_bytes(payload[7:8], "little", signed=True), _DST_MIN.get(payload[8])
    if dst is None or not -48 <= steps <= 56:
        return _Session(wall_ns, gatt.WALL, 0)
    tz_min = steps * _ZONE_STEP_MIN + dst
    return _Session(wall_ns - tz_min * MINUTE_NS, SourceClock.INSTANT, tz_min)


def _parse_session(packet: gatt.Packet, output: gatt.Output) -> None:
    problem = _session_problem(packet.payload)
    if problem is not None:
        raise problem
    session = _session_start(packet.payload)
    if session is None:
        output.event(packet, EventKind.CLOCK_FAULT, "session_start_unknown")
        return
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=session.start_ns // SECOND_NS)
    text = start.strftime("%Y-%m-%dT%H:%M:%S") + ("Z" if session.clock is SourceClock.INSTANT else "")
    output.event(packet, EventKind.CONTEXT, msgspec.json.encode({"session_start": text}).decode())


@lru_cache(maxsize=1024)
def _configured(setting: str) -> _Session:
    try:
        start_ns, offset = parse_time(setting)
    except ValueError:
        raise DecodeError(Reason.BAD_VALUE, "setting session_start") from None
    if offset is None:
        return _Session(start_ns, gatt.WALL, 0)
    return _Session(start_ns, SourceClock.INSTANT, offset)


def _session(packet: gatt.Packet) -> _Session | None:
    """When the session of a value began, None when nothing says so."""
    beside = packet.beside.get(SESSION_START)
    if beside is not None:
        return _session_start(beside) if beside and _session_problem(beside) is None else None
    setting = packet.settings.get("session_start")
    return None if setting is None else _configured(setting)


def _record_problem(payload: bytes, at: int, checksum: str) -> DecodeError | None:
    """What is wrong with the record at ``at``, which is all there: its size is not that of its flags, or its checksum
    does not match."""
    size, present = payload[at], payload[at + 1]
    expected = _SIZE[present]
    has_crc = size == expected + _CRC_SIZE and checksum != "none"
    if not has_crc and (size != expected or checksum == "required"):
        reason = Reason.TRAILING_BYTES if size > expected else Reason.TRUNCATED
        if present & _RESERVED:
            reason = Reason.RESERVED_BITS
        return DecodeError(reason, f"record at byte {at}: {size} bytes, flags say {expected}")
    if has_crc and crc(payload[at : at + expected]) != gatt.word(payload, at + expected):
        return DecodeError(Reason.BAD_CHECKSUM, f"record at byte {at}")
    return None


def _records(payload: bytes, checksum: str) -> tuple[list[int], list[DecodeError]]:
    """Offsets of the good records, and what is wrong with the others."""
    good: list[int] = []
    problems: list[DecodeError] = []
    at, end = 0, len(payload)
    while at < end:
        size = payload[at]
        if size < 6:
            problems.append(DecodeError(Reason.MALFORMED, f"record at byte {at}: size {size}"))
            break
        if at + size > end:
            problems.append(DecodeError(Reason.TRUNCATED, f"record at byte {at}: {end - at} of {size} bytes"))
            break
        is_plain = size == _SIZE[payload[at + 1]] and checksum != "required"
        problem = None if is_plain else _record_problem(payload, at, checksum)
        if problem is None:
            good.append(at)
        else:
            problems.append(problem)
        at += size
    return good, problems


def _fits(payload: bytes) -> bool:
    return not _records(payload, "auto")[1]


@lru_cache(maxsize=64)
def _model(
    status_order: str | None, e2e_crc: str | None, without_session_start: str | None
) -> tuple[tuple[_Octet, ...], str, bool]:
    """Order of the status octets, what is said of checksums, and whether the hub passes on live values alone."""
    order = gatt.choice(status_order, "status_order", ("status_first", "warning_first"))
    checksum = gatt.choice(e2e_crc, "e2e_crc", ("auto", "required", "none"))
    without = gatt.choice(without_session_start, "without_session_start", ("hold", "arrival"))
    return _ORDERS[order], checksum, without == "arrival"


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    model = packet.settings.get
    order, checksum, is_live = _model(model("status_order"), model("e2e_crc"), model("without_session_start"))
    session = _session(packet) if packet.settings or packet.beside else None
    good, problems = _records(payload, checksum)
    newest = max((gatt.word(payload, at + 4) for at in good), default=0) if is_live else None
    for at in good:
        offset = payload[at + 4] | payload[at + 5] << 8
        context: dict[str, Any] = {"session_min": offset}
        flags = _describe(packet, at, order, context, output) if payload[at + 1] else 0
        glucose, tz_min = payload[at + 2] | payload[at + 3] << 8, 0
        if session is not None:
            gatt.note_hub(packet, context)
            clock, tz_min = gatt.STORED if flags & _CLOCK_SUSPECT else session.clock, session.tz_min
            identity = session.start_ns + offset * MINUTE_NS, clock, offset
        elif newest is not None:
            # The arrival is not the sensor's time, which may be wrong.
            flags = flags & ~_CLOCK_SUSPECT | (_ESTIMATED if offset < newest else 0)
            identity = packet.time_ns - (newest - offset) * MINUTE_NS, packet.clock, packet.parts + at
        else:
            gatt.note_hub(packet, context)
            identity = packet.message.received_ns, gatt.STORED, packet.parts + at
        output.sfloat(packet, _GLUCOSE, glucose, _MG_DL, *identity, flags, context, tz_min)
    if problems:
        first, others = problems[0], len(problems) - 1
        raise DecodeError(first.reason, f"{first.detail}; {others} more" if others else first.detail)


def _describe(
    packet: gatt.Packet, start: int, order: tuple[_Octet, ...], context: dict[str, Any], output: gatt.Output
) -> int:  # fmt: skip
    """Flags of the record at ``start``, with its optional fields in the context and as events."""
    payload = packet.payload
    present = payload[start + 1]
    at, flags = start + 6, 0
    if present & 0xE0:
        warning = 0
        for octet in order:
            if present & octet.bit:
                bits = payload[at]
                if bits:
                    flags |= _note(packet, octet, bits, context, output)
                    if octet is _WARNING:
                        warning = bits
                at += 1
        if warning and present & _STATUS.bit and _contradicts(SFLOAT[gatt.word(payload, start + 2)], warning):
            context["status_order"] = "contradicted"
            output.event(packet, EventKind.SENSOR_STATUS, "status_order_contradicted")
            # A fault that may be none must not keep an extreme value from alerting.
            flags = flags & _CLOCK_SUSPECT | _LOW_QUALITY
    for bit, name in _FLOATS:
        if present & bit:
            word = payload[at] | payload[at + 1] << 8
            value = SFLOAT[word]
            if value - value == 0.0:
                context[name] = value
            else:
                output.event(packet, EventKind.VALUE_ABSENT, f"{name}:{SFLOAT_SPECIALS[word].value}", _GLUCOSE)
            at += 2
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    return flags


def _note(packet: gatt.Packet, octet: _Octet, value: int, context: dict[str, Any], output: gatt.Output) -> int:
    """Flags of a status octet that is not zero, with its names in the context and as events."""
    context[octet.key] = octet.names[value]
    if octet.events[value]:
        output.event(packet, EventKind.SENSOR_STATUS, octet.events[value])
    if octet is _STATUS and value & _BATTERY_LOW:
        output.event(packet, _BATTERY, "low")
    flags = octet.flags[value]
    if flags & _CLOCK_SUSPECT:
        output.event(packet, EventKind.CLOCK_FAULT, "time_sync_required")
    return flags


def _contradicts(glucose: float, warning: int) -> bool:
    """Whether a warning cannot be meant with this value: the octets may come in the other order."""
    return bool(
        (warning & _WARNS_LOW and glucose >= _SURELY_HIGH) or (warning & _WARNS_HIGH and glucose <= _SURELY_LOW)
    )  # fmt: skip


_CARRIAGE: Final = carriage.carriage(
    {CGM_MEASUREMENT: gatt.Profile(_fits, _parse), SESSION_START: gatt.Profile(_fits_session, _parse_session)},
    default=CGM_MEASUREMENT,
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Interstitial glucose in mg/dL with trend, quality and the sensor's warnings; events for its status."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_cgm",
    version=2,
    title="Bluetooth continuous glucose monitor",
    kinds=carriage.kinds({"2aa7": "CGM Measurement", "2aaa": "CGM Session Start Time"}, default="2aa7"),
    vitals=frozenset({"glucose_isf"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    settings=SETTINGS,
    files=carriage.files("2aa7"),
)
