"""Decisions about programmes and patients: checked against the rules in force before they enter the log."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from alerts.programmes.bodies import ProgrammeVersion, read_context, read_enrolment, read_programme, read_status
from alerts.programmes.in_force import Programmes
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.ports import AlertDecisions, Registry
from vitals.records import Decision, Patient

DECIDED: Final = frozenset({ControlKind.PROGRAMME, ControlKind.ENROLMENT, ControlKind.CONTEXT, ControlKind.STATUS})
"""Kinds of control that decide about a programme or a patient; all but a status make versions."""
SUBJECTS: Final[Mapping[ControlKind, str]] = MappingProxyType({
    ControlKind.LIMITS: "patient", ControlKind.PROGRAMME: "programme", ControlKind.ENROLMENT: "patient",
    ControlKind.CONTEXT: "patient",
})  # fmt: skip
"""Kinds of control that make versions, and the member of the body that says of what."""
_READ: Final = 256


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


def programmes_of(book: AlertDecisions, patient: str, now_ns: int) -> Programmes:
    """What is in force for one patient, as the engine folds it."""
    return _fold(book, *_of_one(book, patient), (), now_ns)


def _of_one(book: AlertDecisions, patient: str) -> tuple[list[Decision], list[Decision]]:
    """The enrolment and the context of a patient, as far as there are any."""
    enrolment, context = book.enrolment(patient), book.context(patient)
    return [] if enrolment is None else [enrolment], [] if context is None else [context]


def _fold(
    book: AlertDecisions, enrolments: Sequence[Decision], contexts: Sequence[Decision], programmes: Iterable[str],
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


def history(book: AlertDecisions, programme: str) -> list[Decision]:
    """Every version of a programme, the newest first; none of one that does not exist."""
    try:
        return book.programme_history(programme)
    except NotFound:
        return []


def check_decision(book: AlertDecisions, control: Control) -> None:
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


def newest_version(book: AlertDecisions, control: Control) -> int:
    """Number of the version in force of what ``control`` revises: limits, a programme, an enrolment or a context; 0
    before the first. Raises ``InvalidRequest`` for a control of another kind, or without a subject."""
    if control.kind not in SUBJECTS:
        raise InvalidRequest("kind", "makes no versions")
    subject = control.body.get(SUBJECTS[control.kind])
    if not isinstance(subject, str):
        raise InvalidRequest(SUBJECTS[control.kind], "is missing")
    if control.kind is ControlKind.LIMITS:
        return book.limits(subject)[0]
    if control.kind is ControlKind.PROGRAMME:
        return max((one.version for one in history(book, subject)), default=0)
    newest = book.enrolment(subject) if control.kind is ControlKind.ENROLMENT else book.context(subject)
    return 0 if newest is None else newest.version


def next_version(book: AlertDecisions, control: Control, version: int | None) -> Control:
    """``control`` with the number of the version that it makes: the next one, or ``version`` when that is still new.

    Raises ``InvalidRequest`` (field ``version``) when a version with that number, or a later one, is in force.
    """
    newest = newest_version(book, control)
    if version is not None and version <= newest:
        raise InvalidRequest("version", f"was changed meanwhile: version {newest} is in force")
    return msgspec.structs.replace(control, body={**control.body, "version": version or newest + 1})


def change_status(registry: Registry, control: Control, submit: Callable[[Control], object]) -> Patient:
    """Change a patient's monitoring status in the registry, then ``submit`` it to the log; the patient afterwards.

    The registry goes first: it refuses an unknown patient, and asking again repairs a crash between the two.

    Raises:
        InvalidRequest: a member of the body is wrong. NotFound: there is no such patient. Nothing was changed.
    """
    body = read_status(control.body)
    changed = registry.set_status(body.patient, body.status, body.from_ns)
    submit(control)
    return changed


def prove_decision(book: AlertDecisions, control: Control) -> None:
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
