"""Headers of Open mHealth data points: version 1.0 to 1.2, and IEEE 1752.1 style (device-formats.md 3.1).

Which members an IEEE 1752.1 header must have is unconfirmed; the setting ``ieee_header`` lists them. A header of that
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
    if "url" in schema_id:
        text(schema_id["url"], f"{path}.url")
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


def _provenance(header: dict[str, Any], path: str, context: dict[str, Any]) -> tuple[int, int]:
    """Flags and unknown members of ``acquisition_provenance``; its times go to the context."""
    path = f"{path}.{_PROVENANCE}"
    provenance = members(header[_PROVENANCE], path)
    required(provenance, "source_name", path)
    for name in _PROVENANCE_TEXTS:
        if name in provenance:
            text(provenance[name], f"{path}.{name}")
    for name, key in _PROVENANCE_TIMES.items():
        if name in provenance:
            instant(provenance[name], f"{path}.{name}")
            context[key] = provenance[name]
    flags = 0
    if "modality" in provenance:
        flags = _MODALITIES[one_of(provenance["modality"], f"{path}.modality", _MODALITIES)]
    return flags, len(provenance.keys() - _PROVENANCE_MEMBERS)


def _check_ieee(header: dict[str, Any], path: str) -> int:
    """Check the members that only IEEE 1752.1 headers have; the flags of the modality."""
    if "external_datasheets" in header:
        sheets = header["external_datasheets"]
        if not isinstance(sheets, list):
            raise DecodeError(Reason.BAD_TYPE, f"{path}.external_datasheets")
        for place, item in enumerate(sheets):
            at = f"{path}.external_datasheets[{place}]"
            sheet = members(item, at)
            for name in ("datasheet_type", "datasheet_reference"):
                if name in sheet:
                    text(sheet[name], f"{at}.{name}")
    if "acquisition_rate" in header:
        members(header["acquisition_rate"], f"{path}.acquisition_rate")
    if "modality" not in header:
        return 0
    return _MODALITIES[one_of(header["modality"], f"{path}.modality", _MODALITIES)]


def read(value: Any, path: str, asked: SchemaRules | None, settings: Mapping[str, str]) -> Header:
    header = members(value, path)
    is_ieee = any(name in header for name in _IEEE_ONLY)
    needed = settings.get("ieee_header", "").split() if is_ieee else _OMH_REQUIRED
    for name in ("schema_id", *needed):
        if name not in header:
            raise DecodeError(Reason.MISSING_FIELD, f"{path}.{name}")
    rules, unknown = _schema(header, path, asked)
    for name in _TEXTS:
        if name in header:
            text(header[name], f"{path}.{name}")
    context: dict[str, Any] = {}
    for name, key in _TIMES.items():
        if name in header:
            instant(header[name], f"{path}.{name}")
            context[key] = header[name]
    flags = _check_ieee(header, path) if is_ieee else 0
    if _PROVENANCE in header:
        more_flags, more_unknown = _provenance(header, path, context)
        flags, unknown = flags | more_flags, unknown + more_unknown
    ident = header.get("uuid") or header.get("id")
    seq = 0
    if ident:
        digest = blake2b(ident.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        seq = -1 - (int.from_bytes(digest, "big") >> 1)
    return Header(rules, context, seq, flags, unknown + len(header.keys() - _HEADER))
