"""Headers of Open mHealth data points: version 1.0 to 1.2, and IEEE 1752.1 style (device-formats.md 3.1).

A member beside ``schema_id`` that cannot be read is left out and counted: no value is lost for it. Which members an
IEEE 1752.1 header must have is unconfirmed; the setting ``ieee_header`` lists them. A header of that
style is told by a member that only it has.
"""

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ingest.adapters.omh.schemas import RULES, SCHEMAS, SchemaRules
from ingest.adapters.reading.json_document import instant, members, one_of, required, text
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason

_MANUAL: Final = int(Flag.MANUAL)


class Header(NamedTuple):
    """What a header says of its body. ``seq`` is 0 for a header without an id."""

    rules: SchemaRules | None
    context: Mapping[str, Any]
    seq: int = 0
    flags: int = 0
    unknown: int = 0
    left_out: int = 0


NO_HEADER: Final = Header(None, MappingProxyType({}))
"""That of a body alone."""

_PROVENANCE: Final = "acquisition_provenance"
_IEEE_ONLY: Final = ("uuid", "source_creation_date_time", "external_datasheets", "modality", "acquisition_rate")
_TEXTS: Final = ("id", "uuid", "user_id", "patient_id")
_TIMES: Final = MappingProxyType({"creation_date_time": "created", "source_creation_date_time": "created"})
_PROVENANCE_TEXTS: Final = ("source_name", "source_data_point_id")
_PROVENANCE_TIMES: Final = MappingProxyType(
    {"source_creation_date_time": "source_created", "source_last_modification_date_time": "source_modified"}
)
_MODALITIES: Final = MappingProxyType({"sensed": 0, "self-reported": _MANUAL})
_HEADER: Final = frozenset({"schema_id", _PROVENANCE, *_IEEE_ONLY, *_TEXTS, *_TIMES})
_OMH_REQUIRED: Final = ("id", "creation_date_time")
_SCHEMA_ID: Final = frozenset({"namespace", "name", "version", "url"})
_PROVENANCE_MEMBERS: Final = frozenset({*_PROVENANCE_TEXTS, *_PROVENANCE_TIMES, "modality"})


def _schema(header: dict[str, Any], path: str, asked: SchemaRules | None) -> tuple[SchemaRules, int]:
    """The rules that ``schema_id`` names, and its unknown members. The versions of IEEE 1752.1 are not known here: its
    schemas are read by the newest rules of their name."""
    path = f"{path}.schema_id"
    schema_id = members(header["schema_id"], path)
    namespace = one_of(required(schema_id, "namespace", path), f"{path}.namespace", ("omh", "ieee"))
    name = text(required(schema_id, "name", path), f"{path}.name")
    version = required(schema_id, "version", path)
    if isinstance(version, int | float) and not isinstance(version, bool):
        version = f"{version}.0" if isinstance(version, int) else str(version)
    elif not isinstance(version, str):
        raise DecodeError(Reason.BAD_TYPE, f"{path}.version")
    if name not in SCHEMAS:
        raise DecodeError(Reason.UNKNOWN_KIND, f"{path}.name")
    rules = SCHEMAS[name][-1] if namespace == "ieee" else RULES.get((name, version))
    if rules is None or not version:
        raise DecodeError(Reason.UNKNOWN_KIND, f"{path}.version")
    if asked is not None:
        if asked.name != name:
            raise DecodeError(Reason.BAD_VALUE, f"{path}.name: not that of the kind")
        if asked.version not in ("", version):
            raise DecodeError(Reason.BAD_VALUE, f"{path}.version: not that of the kind")
    return rules, len(schema_id.keys() - _SCHEMA_ID)


def _times(found: dict[str, Any], names: Mapping[str, str], path: str, context: dict[str, Any]) -> int:
    """Put times, as sent, into the context; the number of those that cannot be read."""
    left_out = 0
    for name, key in names.items():
        if name in found:
            try:
                instant(found[name], f"{path}.{name}")
                context[key] = found[name]
            except DecodeError:
                left_out += 1
    return left_out


def _modality(found: dict[str, Any]) -> tuple[int, int]:
    """Flags of the modality, and 1 when it cannot be read."""
    word = found.get("modality", "sensed")
    return (_MODALITIES[word], 0) if isinstance(word, str) and word in _MODALITIES else (0, 1)


def _provenance(header: dict[str, Any], path: str, context: dict[str, Any]) -> tuple[int, int, int]:
    """Flags, unknown members and members left out of ``acquisition_provenance``; its times go to the context."""
    path = f"{path}.{_PROVENANCE}"
    try:
        provenance = members(header[_PROVENANCE], path)
    except DecodeError:
        return 0, 0, 1
    left_out = _times(provenance, _PROVENANCE_TIMES, path, context)
    left_out += sum(not isinstance(provenance.get(name, ""), str) for name in _PROVENANCE_TEXTS)
    flags, unread = _modality(provenance)
    return flags, len(provenance.keys() - _PROVENANCE_MEMBERS), left_out + unread


def _check_ieee(header: dict[str, Any]) -> tuple[int, int]:
    """Flags of the modality of an IEEE 1752.1 header, and its members that cannot be read."""
    sheets, rate = header.get("external_datasheets", []), header.get("acquisition_rate", {})
    flags, left_out = _modality(header)
    return flags, left_out + (not isinstance(sheets, list)) + (not isinstance(rate, dict))


def read(value: Any, path: str, asked: SchemaRules | None, settings: Mapping[str, str]) -> Header:
    header = members(value, path)
    is_ieee = any(name in header for name in _IEEE_ONLY)
    needed = settings.get("ieee_header", "").split() if is_ieee else _OMH_REQUIRED
    for name in ("schema_id", *needed):
        if name not in header:
            raise DecodeError(Reason.MISSING_FIELD, f"{path}.{name}")
    rules, unknown = _schema(header, path, asked)
    context: dict[str, Any] = {}
    left_out = _times(header, _TIMES, path, context)
    left_out += sum(not isinstance(header.get(name, ""), str) for name in _TEXTS)
    flags = 0
    if is_ieee:
        flags, unread = _check_ieee(header)
        left_out += unread
    if _PROVENANCE in header:
        more_flags, more_unknown, unread = _provenance(header, path, context)
        flags, unknown, left_out = flags | more_flags, unknown + more_unknown, left_out + unread
    ident = header.get("uuid") or header.get("id")
    seq = 0
    if ident and isinstance(ident, str):
        digest = blake2b(ident.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        seq = -1 - (int.from_bytes(digest, "big") >> 1)
    return Header(rules, context, seq, flags, unknown + len(header.keys() - _HEADER), left_out)
