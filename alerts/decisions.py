"""Decisions about programmes and patients: the bodies of their control entries, and what must not enter the log."""

from typing import Annotated, Any, Final, Literal, Protocol

import msgspec

from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.ports import Decision

_Word = Annotated[str, msgspec.Meta(min_length=1)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class ProgrammeBody(msgspec.Struct, frozen=True):
    programme: _Word
    version: _Version
    title: str
    reason: str
    protocols: list[dict[str, Any]]
    valid_from_ns: int | None = None
    review_ns: int | None = None


class EnrolmentBody(msgspec.Struct, frozen=True):
    patient: _Word
    version: _Version
    reason: str
    programmes: list[_Word]
    overrides: list[dict[str, Any]] = []


class ContextBody(msgspec.Struct, frozen=True):
    patient: _Word
    version: _Version
    reason: str
    age_band: Literal["unknown", "under_16", "adult"]
    pregnancy: Literal["unknown", "no", "yes"]
    oxygen: Literal["unknown", "no", "yes"]
    spo2_scale: Literal[0, 1, 2]
    known_af: Literal["unknown", "no", "yes"]
    usual_confusion: bool = False


class StatusBody(msgspec.Struct, frozen=True):
    patient: _Word
    status: Literal["active", "paused", "hospitalised", "discharged"]
    from_ns: int
    check_ns: int | None = None


_BODIES: Final = {
    ControlKind.PROGRAMME: ProgrammeBody, ControlKind.ENROLMENT: EnrolmentBody, ControlKind.CONTEXT: ContextBody,
    ControlKind.STATUS: StatusBody,
}  # fmt: skip

DECIDED: Final = frozenset(_BODIES)
"""Kinds of control that decide about a programme or a patient."""


def _read(control: Control) -> Any:
    try:
        return msgspec.convert(control.body, _BODIES[control.kind])
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(path.rstrip("`") or "body", problem) from error


def read_decision(control: Control) -> tuple[str, int, str]:
    body = _read(control)
    return getattr(body, "programme", None) or body.patient, body.version, body.reason


def read_status(control: Control) -> StatusBody:
    body = _read(control)
    assert isinstance(body, StatusBody)
    return body


class DecisionReader(Protocol):
    """What checking a decision needs of the alert book."""

    def programmes(self) -> list[Decision]:
        """The newest version of every programme."""

    def enrolment(self, patient: str) -> Decision | None:
        """The one in force."""

    def context(self, patient: str) -> Decision | None:
        """The one in force."""


def in_force(book: DecisionReader, control: Control) -> Decision | None:
    """The newest decision about the subject of ``control``."""
    subject, _, _ = read_decision(control)
    if control.kind is ControlKind.PROGRAMME:
        return next((one for one in book.programmes() if one.subject == subject), None)
    return book.enrolment(subject) if control.kind is ControlKind.ENROLMENT else book.context(subject)


def check_decision(book: DecisionReader, control: Control) -> None:
    """Refuse what must not enter the log: raises ``InvalidRequest`` for a wrong member or a version that is not new."""
    if control.kind is ControlKind.STATUS:
        read_status(control)
        return
    _, version, _ = read_decision(control)
    newest = in_force(book, control)
    if newest is not None and version <= newest.version:
        raise changed_meanwhile(newest.version)


def prove_decision(book: DecisionReader, control: Control) -> None:
    """Two people may set the same version at once: the log's first wins, the other must be told."""
    newest = in_force(book, control)
    if newest is not None and newest.version == control.body["version"] and newest.body != control.body:
        raise changed_meanwhile(newest.version)


def changed_meanwhile(version: int) -> InvalidRequest:
    """Somebody else was first."""
    return InvalidRequest("version", f"was changed meanwhile: version {version} is in force")
