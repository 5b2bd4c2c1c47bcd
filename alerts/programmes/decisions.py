"""Decisions about programmes and patients: checked against the rules in force before they enter the log."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from alerts.programmes.bodies import ProgrammeVersion, read_context, read_enrolment, read_programme, read_status
from alerts.programmes.in_force import Programmes
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.records import Decision

DECIDED: Final = frozenset({ControlKind.PROGRAMME, ControlKind.ENROLMENT, ControlKind.CONTEXT, ControlKind.STATUS})
"""Kinds of control that decide about a programme or a patient; all but a status make versions."""
_READ: Final = 256


class DecisionReader(Protocol):
    """What checking a decision needs of the alert book."""

    def programmes(self) -> list[Decision]:
        """The newest version of every programme."""

    def programme_history(self, ident: str) -> list[Decision]:
        """Every version, the newest first; raises ``NotFound``."""

    def enrolments(self) -> list[Decision]:
        """The one in force of every patient."""

    def contexts(self) -> list[Decision]:
        """The one in force of every patient."""

    def enrolment(self, patient: str) -> Decision | None:
        """The one in force."""

    def context(self, patient: str) -> Decision | None:
        """The one in force."""


def read_decision(control: Control) -> tuple[str, int, str]:
    """(subject, version, reason) of a decision that makes a version; raises ``InvalidRequest``."""
    if control.kind is ControlKind.PROGRAMME:
        made = read_programme(control.body)
        return made.adopted.programme, made.adopted.version, made.reason
    body: Any = (read_enrolment if control.kind is ControlKind.ENROLMENT else read_context)(control.body)
    return body.patient, body.version, body.reason


@lru_cache(maxsize=_READ)
def _read(body: bytes) -> ProgrammeVersion:
    return read_programme(msgspec.json.decode(body))


def read_version(version: Decision) -> ProgrammeVersion:
    """A version of a programme that stands in the book; read once, however often it is asked for."""
    return _read(msgspec.json.encode(version.body))


def programmes_of(book: DecisionReader, patient: str, now_ns: int) -> Programmes:
    """What is in force for one patient, as the engine folds it."""
    return _fold(book, *_of_one(book, patient), (), now_ns)


def _of_one(book: DecisionReader, patient: str) -> tuple[list[Decision], list[Decision]]:
    """The enrolment and the context of a patient, as far as there are any."""
    enrolment, context = book.enrolment(patient), book.context(patient)
    return [] if enrolment is None else [enrolment], [] if context is None else [context]


def _fold(
    book: DecisionReader, enrolments: Sequence[Decision], contexts: Sequence[Decision], programmes: Iterable[str],
    now_ns: int,
) -> Programmes:  # fmt: skip
    """What is in force of these decisions, with ``programmes`` and those that somebody is enrolled in."""
    state = Programmes()
    named = [programme for one in enrolments for programme in one.body["programmes"]]
    for programme in dict.fromkeys([*named, *programmes]):
        for version in reversed(history(book, programme)):
            state.adopt(read_version(version), version.set_ns)
    for one in enrolments:
        state.enrol(read_enrolment(one.body))
    for one in contexts:
        state.set_context(read_context(one.body))
    state.due(now_ns)
    return state


def history(book: DecisionReader, programme: str) -> list[Decision]:
    """Every version of a programme, the newest first; none of one that does not exist."""
    try:
        return book.programme_history(programme)
    except NotFound:
        return []


def check_decision(book: DecisionReader, control: Control) -> None:
    """Refuse what must not enter the log: raises ``InvalidRequest`` with the path of the wrong member."""
    now_ns = control.time_ns
    if control.kind is ControlKind.STATUS:
        read_status(control.body)
    elif control.kind is ControlKind.PROGRAMME:
        version = read_programme(control.body)
        programme = version.adopted.programme
        touched = [one for one in book.enrolments() if programme in one.body["programmes"]]
        _fold(book, touched, book.contexts() if touched else (), [programme], now_ns).check_programme(version)
    elif control.kind is ControlKind.ENROLMENT:
        enrolment = read_enrolment(control.body)
        state = _fold(book, *_of_one(book, enrolment.patient), enrolment.programmes, now_ns)
        state.check_enrolment(enrolment, now_ns)
    else:
        context = read_context(control.body)
        programmes_of(book, context.patient, now_ns).check_context(context)


def prove_decision(book: DecisionReader, control: Control) -> None:
    """Two people may make the same version at once: the log's first wins, the other must be told.

    Raises ``InvalidRequest`` when another one stands in the book.
    """
    subject, version, _ = read_decision(control)
    if control.kind is ControlKind.PROGRAMME:
        newest: Decision | None = book.programme_history(subject)[0]
    else:
        newest = book.enrolment(subject) if control.kind is ControlKind.ENROLMENT else book.context(subject)
    if newest is not None and newest.version == version and newest.body != control.body:
        raise InvalidRequest("version", f"was changed meanwhile: version {version} is in force")
