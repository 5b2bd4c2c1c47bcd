"""Bodies of the control entries about programmes, enrolments, clinical context and monitoring status.

Read strictly: an unknown member is refused, so that a misspelt end of an override is not taken for none.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from alerts.rules.compile import Adopted
from alerts.rules.gates import AgeBand, Known, PatientContext, contradiction
from alerts.rules.protocol import MonitoringProtocol, parse_protocol
from vitals.context import USUAL_SPO2
from vitals.errors import InvalidRequest

MAX_PROTOCOLS: Final = 16
"""Protocols one programme may have, and programmes one patient."""
MAX_OVERRIDES: Final = 64
MAX_CHANGES: Final = 4096
"""Characters of JSON that one override may be."""

T = TypeVar("T")
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
_Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_AnyTime = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class ProgrammeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a ``programme`` control; ``protocols`` are documents. ``valid_from_ns`` None is the control's time; after
    ``review_ns`` a reminder comes, and the rules go on."""

    programme: _Name
    version: _Version
    title: _Word
    reason: _Text
    protocols: Annotated[list[Any], msgspec.Meta(min_length=1, max_length=MAX_PROTOCOLS)]
    valid_from_ns: _Time | None = None
    review_ns: _Time | None = None


class OverrideBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A patient's own version of a rule (``copd:P1-red``): a patch of its document, or off, for good or a time."""

    rule: _Word
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    changes: dict[str, Any] | None = None
    off: bool = False
    until_ns: _Time | None = None


class EnrolmentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of an ``enrolment`` control: the whole set that replaces what was in force for the patient."""

    patient: _Word
    version: _Version
    reason: _Text
    programmes: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=MAX_PROTOCOLS)]
    overrides: Annotated[tuple[OverrideBody, ...], msgspec.Meta(max_length=MAX_OVERRIDES)] = ()


class ContextBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a ``context`` control: the whole clinical context of a patient, members of ``vitals.context``."""

    patient: _Word
    version: _Version
    reason: _Text
    age_band: AgeBand = "unknown"
    pregnancy: Known = "unknown"
    oxygen: Known = "unknown"
    spo2_scale: Literal[0, 1, 2] = 0
    known_af: Known = "unknown"
    usual_confusion: bool = False
    postpartum: Known = "unknown"
    mechanical_support: Known = "unknown"
    trained_or_paced: Known = "unknown"
    usual_spo2: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    treatment_limits: Known = "unknown"

    @property
    def context(self) -> PatientContext:
        """The members that rules and scores ask about."""
        return PatientContext(**{key: getattr(self, key) for key in PatientContext._fields})


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a ``status`` control; ``check_ns`` is when to ask whether monitoring goes on."""

    patient: _Word
    status: Literal["active", "paused", "hospitalised", "discharged"]
    from_ns: _AnyTime
    check_ns: _Time | None = None


class ProgrammeVersion(NamedTuple):
    """A version of a programme with its protocols parsed."""

    adopted: Adopted
    title: str
    reason: str
    valid_from_ns: int | None
    review_ns: int | None


def _convert(body: Any, cls: type[T]) -> T:
    try:
        return msgspec.convert(body, cls)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(path.rstrip("`") or "body", problem) from error


def read_programme(body: Mapping[str, Any]) -> ProgrammeVersion:
    """The version that a ``programme`` control adopts; raises ``InvalidRequest``, ``protocols[0].rules[3].below``."""
    read = _convert(body, ProgrammeBody)
    if read.review_ns is not None and read.review_ns <= (read.valid_from_ns or 0):
        raise InvalidRequest("review_ns", "must be after valid_from_ns")
    protocols: list[MonitoringProtocol] = []
    measures: dict[str, str] = {}
    for number, payload in enumerate(read.protocols):
        try:
            protocol = parse_protocol(payload)
        except InvalidRequest as error:
            raise _inside(f"protocols[{number}].", error) from error
        if any(protocol.name == other.name for other in protocols):
            raise InvalidRequest(f"protocols[{number}].name", f"there are two of {protocol.name}")
        for key, mode in protocol.measures.items():
            if measures.setdefault(key, mode) != mode:
                raise InvalidRequest(f"protocols[{number}].measures.{key}", f"another protocol says {measures[key]}")
        protocols.append(protocol)
    adopted = Adopted(read.programme, read.version, tuple(protocols))
    return ProgrammeVersion(adopted, read.title, read.reason, read.valid_from_ns, read.review_ns)


def _inside(root: str, error: InvalidRequest) -> InvalidRequest:
    return InvalidRequest(root + error.field, str(error).removeprefix(f"{error.field}: "))


def read_enrolment(body: Mapping[str, Any]) -> EnrolmentBody:
    """Body of an ``enrolment`` control; raises ``InvalidRequest``, such as ``overrides[2].until_ns``."""
    read = _convert(body, EnrolmentBody)
    if len(set(read.programmes)) != len(read.programmes):
        raise InvalidRequest("programmes", "names a programme twice")
    seen: set[str] = set()
    for number, override in enumerate(read.overrides):
        path = f"overrides[{number}]"
        if override.rule in seen:
            raise InvalidRequest(f"{path}.rule", f"there are two of {override.rule}")
        if override.off is bool(override.changes):
            raise InvalidRequest(path, "needs either changes or off")
        try:
            size = len(patch(override))
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{path}.changes", "is no JSON") from error
        if size > MAX_CHANGES:
            raise InvalidRequest(f"{path}.changes", f"is longer than {MAX_CHANGES} characters")
        seen.add(override.rule)
    return read


def patch(override: OverrideBody) -> str:
    """The changes as JSON, equal for equal changes; empty for off."""
    return json.dumps(override.changes, sort_keys=True, separators=(",", ":")) if override.changes else ""


def read_context(body: Mapping[str, Any]) -> ContextBody:
    """Body of a ``context`` control; raises ``InvalidRequest``, also where it contradicts itself."""
    read = _convert(body, ContextBody)
    contradicting = contradiction(read.context)
    if contradicting is not None:
        raise InvalidRequest(*contradicting)
    least, most = USUAL_SPO2
    if read.usual_spo2 and not least <= read.usual_spo2 <= most:
        raise InvalidRequest("usual_spo2", f"is outside of {least} to {most} %; 0 where none is recorded")
    return read


def read_status(body: Mapping[str, Any]) -> StatusBody:
    """Body of a ``status`` control; raises ``InvalidRequest``."""
    read = _convert(body, StatusBody)
    if read.from_ns < 0:
        raise InvalidRequest("from_ns", "is before 1970")
    if read.check_ns is not None and read.check_ns <= read.from_ns:
        raise InvalidRequest("check_ns", "must be after from_ns")
    return read
