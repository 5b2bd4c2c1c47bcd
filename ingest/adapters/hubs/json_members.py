"""The optional members of a ``json`` reading: what each may hold, how it is read, and its JSON Schema.

One table serves the adapter and the published schema. The words for samples, meals, postures and sites are those of
the Bluetooth glucose profile (device-formats.md 2.2, 2.3) and of Open mHealth (device-formats.md 4.2).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.adapters.reading.timestamps import parse_epoch, parse_time
from vitals.glossary import Flag, Statistic
from vitals.times import MINUTE_NS, NO_TIME

WALL: Final = 32_767
"""Stands for "no offset" among offsets in minutes."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATISTICS: Final = MappingProxyType(
    {
        one.name.lower(): int(one)
        for one in (
            Statistic.SINGLE, Statistic.MEAN, Statistic.MINIMUM, Statistic.MAXIMUM, Statistic.SUM, Statistic.COUNT,
            Statistic.MEDIAN,
        )
    }
)  # fmt: skip
_ALSO: Final = MappingProxyType({"min": "minimum", "max": "maximum", "avg": "mean", "average": "mean"})
"""What people write for words of ``_STATISTICS``."""
_CONTROL: Final = "control_solution"
_WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sample": (
            *(f"{vessel}_{part}" for vessel in ("capillary", "venous", "arterial", "undetermined")
              for part in ("whole_blood", "plasma")),
            "interstitial_fluid", _CONTROL,
        ),
        "meal": (
            "fasting", "not fasting", "preprandial", "postprandial", "casual", "bedtime",
            *(f"{side} {meal}" for side in ("before", "after") for meal in ("meal", "breakfast", "lunch", "dinner")),
        ),
        "posture": ("sitting", "lying down", "standing", "semi-recumbent"),
        "site": (
            "finger", "toe", "earlobe", "forehead", "oral", "rectal", "axillary", "tympanic", "temporal artery",
            "chest", "alternate_site", "wrist", "left wrist", "right wrist", "left upper arm", "right upper arm",
            "left thigh", "right thigh", "left ankle", "right ankle",
        ),
    }
)  # fmt: skip
_TELLING: Final = ("sample", "posture", "site")
"""Words that make a reading of the same time another one."""
_SINGLE: Final = int(Statistic.SINGLE)
STATUSES: Final = ("final", "corrected", "deleted")
CORRECTED: Final = "corrected"
DELETED: Final = "deleted"
_LONGEST: Final = 128
_TIME: Final = (
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?"
)
_ZONE: Final = r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*"
_MS: Final = (-9_214_560_000_000, 9_214_646_399_999)
"""Epoch milliseconds of the years 1678 to 2261."""

TIME_SCHEMA: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "anyOf": [
            {"type": "string", "pattern": f"^{_TIME}$"},
            {"type": "number", "minimum": _MS[0], "maximum": _MS[1]},
        ],
    }
)


def time(value: object) -> tuple[int, int]:
    """Nanoseconds, and the offset in minutes or ``WALL``, of RFC 3339 text or epoch milliseconds.

    Raises:
        TypeError: neither a string nor a number.
        ValueError: no such time.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no time")
    if not isinstance(value, str) or value[4:5] != "-":
        return parse_epoch(value), 0
    time_ns, offset = parse_time(value)
    return time_ns, WALL if offset is None else offset


def _zone(value: object) -> ZoneInfo:
    if not isinstance(value, str) or len(value) > _LONGEST or not re.fullmatch(_ZONE, value, re.ASCII):
        raise ValueError("no zone")
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError("no zone") from error


def _external_id(value: object) -> int:
    """An identity below 0, where no device counts its records: 63 bits of a hash."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise ValueError("no id")
    return _hashed(value)


def _hashed(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def _manual(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("no truth value")
    return value


def _statistic(value: object) -> int:
    word = value.lower() if isinstance(value, str) else ""
    return _STATISTICS[_ALSO.get(word, word)]


def _one_of(words: Mapping[str, Any]) -> Callable[[object], Any]:
    def read(value: object) -> Any:
        if not isinstance(value, str) or value not in words:
            raise ValueError("no such word")
        return words[value]

    return read


class _Member(NamedTuple):
    """What a member says in the schema, and its reader, which raises ``ValueError`` or ``TypeError``."""

    schema: Mapping[str, Any]
    read: Callable[[object], Any]


def _worded(about: str, words: Mapping[str, Any]) -> _Member:
    return _Member({"description": about, "enum": list(words)}, _one_of(words))


def _context(name: str, about: str) -> _Member:
    return _worded(about, {word: word for word in _WORDS[name]})


MEMBERS: Final[Mapping[str, _Member]] = MappingProxyType(
    {
        "end": _Member(
            {"description": "End of the interval that begins at time; not before it, and with an offset if time has "
                            "one.", **TIME_SCHEMA},
            time,
        ),
        "statistic": _Member(
            {"description": "What the value is over the interval; single when left out. It belongs to the identity of "
                            "the reading.", "enum": list(_STATISTICS)},
            _statistic,
        ),
        "manual": _Member({"description": "Whether a person typed the value.", "type": "boolean"}, _manual),
        "sample": _context("sample", "What was measured in; a control solution is no value of a patient."),
        "meal": _context("meal", "When it was measured, seen from a meal."),
        "posture": _context("posture", "Posture of the patient."),
        "site": _context("site", "Where on the body it was measured."),
        "external_id": _Member(
            {"description": "The sender's id of the reading, in place of seq. It must not name a person.",
             "type": "string", "minLength": 1, "maxLength": _LONGEST},
            _external_id,
        ),
        "status": _worded(
            "corrected replaces the reading of the same vital, time and external_id (or seq); deleted withdraws it.",
            {word: word for word in STATUSES},
        ),
        "device_time_zone": _Member(
            {"description": "IANA time zone of the device's clock: times without an offset are read in it.",
             "type": "string", "maxLength": _LONGEST, "pattern": f"^{_ZONE}$"},
            _zone,
        ),
    }
)  # fmt: skip


class Extras(NamedTuple):
    """What optional members say. ``seq`` is None where they leave the reading's own; ``time_ns`` and ``offset`` are the
    time of the reading, read in the device's zone where it has none of its own."""

    time_ns: int
    offset: int
    seq: int | None
    ended_ns: int
    statistic: int
    flags: int
    context: Mapping[str, str]
    is_numbered: bool
    """Whether the sender tells readings of one time apart itself."""


def _kept(item: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The members that can be read, and the number of the others; raises ``ValueError`` for an unknown statistic, whose
    value must not be taken for a single one."""
    found: dict[str, Any] = {}
    left_out = 0
    for name in item.keys() & MEMBERS.keys():
        try:
            found[name] = MEMBERS[name].read(item[name])
        except KeyError:
            raise ValueError(name) from None
        except (ValueError, TypeError):
            left_out += 1
    return found, left_out


def _identity(found: Mapping[str, Any], seq: int, ended_ns: int) -> int | None:
    """The sequence by which a reading is known, None for its own: the hash of ``external_id``, or of the members that
    make a reading of one time another one.

    A record that has a number of its own is told apart by its statistic alone. A sum or count that goes on keeps its
    identity while its end moves.
    """
    if "external_id" in found:
        return int(found["external_id"])
    statistic = found.get("statistic", _SINGLE)
    parts = [f"statistic={statistic}"] if statistic != _SINGLE else []
    if not seq:
        parts += [f"{name}={found[name]}" for name in _TELLING if name in found]
        if ended_ns != NO_TIME and statistic not in (Statistic.SUM, Statistic.COUNT):
            parts.append(f"end={ended_ns}")
    return _hashed("\x1f".join((*parts, f"seq={seq}"))) if parts else None


def read(item: Mapping[str, Any], time_ns: int, offset: int, seq: int) -> tuple[Extras, int]:
    """The optional members of a reading of this time, offset and number, and how many were left out as unreadable;
    raises ``ValueError`` with the name of a member without which nothing can be said of the value."""
    found, left_out = _kept(item)
    ended_ns, ended_offset = found.get("end", (NO_TIME, offset))
    zone = found.get("device_time_zone")
    if zone is not None:
        time_ns, offset = _in_zone(time_ns, offset, zone)
        if ended_ns != NO_TIME:
            ended_ns, ended_offset = _in_zone(ended_ns, ended_offset, zone)
    if ended_ns != NO_TIME and ((ended_offset == WALL) != (offset == WALL) or ended_ns < time_ns):
        ended_ns, left_out = NO_TIME, left_out + 1
    flags = int(Flag.MANUAL) if found.get("manual") else 0
    if found.get("status") == DELETED:
        flags |= int(Flag.RETRACTED)
    if found.get("sample") == _CONTROL:
        flags |= int(Flag.CONTROL_SOLUTION)
    context = {name: found[name] for name in _WORDS if name in found}
    if found.get("status", STATUSES[0]) != STATUSES[0]:
        context["status"] = found["status"]
    if zone is not None:
        context["device_time_zone"] = zone.key
    known_by, statistic = _identity(found, seq, ended_ns), found.get("statistic", _SINGLE)
    is_numbered = seq != 0 or "external_id" in found
    return Extras(time_ns, offset, known_by, ended_ns, statistic, flags, context, is_numbered), left_out


def _in_zone(time_ns: int, offset: int, zone: ZoneInfo) -> tuple[int, int]:
    """A wall time as an instant; as it is if it has an offset, or in an hour that the zone's clocks show twice or skip:
    the clock stage weighs such an hour with the time of arrival."""
    if offset != WALL:
        return time_ns, offset
    wall = (_EPOCH + timedelta(microseconds=time_ns // 1_000)).replace(tzinfo=zone)
    first, second = wall.utcoffset(), wall.replace(fold=1).utcoffset()
    if first is None or first != second:
        return time_ns, offset
    offset = first // timedelta(minutes=1)
    return time_ns - offset * MINUTE_NS, offset
