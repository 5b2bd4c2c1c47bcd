"""Protocols, programmes that adopt them, and the rules in force for a patient."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query, Response

from dashboard_api.auth.access import Caller, Permission, Principal, needs
from dashboard_api.dependencies import Dependencies, Deps
from dashboard_api.routes.paging import after_cursor
from dashboard_api.schemas import Adoption, ClinicalContext, Enrolment, Override, Paging, ProtocolPair
from dashboard_api.shapes import Json, answer, page
from dashboard_api.times import parse_time, times_as_words
from vitals.context import NEVER_SET, Recorded, context_words
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.records import Decision
from vitals.times import rfc3339

router = APIRouter(tags=["programmes"])
READ: Final = needs(Permission.PROGRAMMES_READ)
WRITE: Final = needs(Permission.PROGRAMMES_WRITE)


@router.get("/protocols", **READ)
def list_protocols(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """List the shipped protocols, each with its rules in words. A programme adopts protocols."""
    found = after_cursor(deps.rulebook.shipped(), query, _name)
    return answer(page(found, query.limit, dict, _name))


@router.get("/protocols/{name}", **READ)
def get_protocol(deps: Deps, name: str) -> Response:
    """One shipped protocol: the whole document, and its rules in words."""
    return answer(deps.rulebook.protocol(name))


@router.post("/protocols/check", **READ)
def check_protocol(deps: Deps, document: Annotated[dict[str, Any], Body()]) -> Response:
    """Validate a protocol document: its rules in words, or 422 with the path of the first wrong member."""
    return answer(deps.rulebook.check(document))


@router.post("/protocols/diff", **READ)
def diff_protocols(deps: Deps, body: ProtocolPair) -> Response:
    """The changes from one protocol to another, as sentences. Each is the name of a shipped protocol or a document."""
    before, after = (_document(deps, one, field) for one, field in ((body.before, "before"), (body.after, "after")))
    return answer({"changes": deps.rulebook.diff(before, after)})


@router.get("/programmes", **READ)
def list_programmes(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """Every programme as of its newest version."""
    found = after_cursor(deps.decisions.programmes(), query, _subject)
    return answer(page(found, query.limit, _programme, _subject))


@router.get("/programmes/{programme}", **READ)
def get_programme(deps: Deps, programme: str) -> Response:
    """A programme: its documents, its rules in words, and its versions, newest first, each with its changes. The ETag
    is the version."""
    return _shown(deps, programme)


@router.put("/programmes/{programme}", **WRITE)
def put_programme(deps: Deps, caller: Caller, programme: str, body: Adoption) -> Response:
    """Adopt protocols as the next version of a programme, at first as a new one; in force when the answer comes."""
    documents = [_document(deps, one, f"protocols[{place}]") for place, one in enumerate(body.protocols)]
    decided = {
        "title": body.title or programme,
        "reason": body.reason,
        "protocols": documents,
        "valid_from_ns": _instant(body.valid_from, "valid_from"),
        "review_ns": _instant(body.review, "review"),
    }
    _revise(deps, caller, ControlKind.PROGRAMME, {"programme": programme} | decided, body.version)
    return _shown(deps, programme)


@router.get("/patients/{patient}/programmes", **READ)
def get_enrolment(deps: Deps, patient: str) -> Response:
    """The programmes and overrides of a patient, and all versions, newest first. The ETag is the version."""
    deps.registry.patient(patient)
    return _enrolled(deps, patient)


@router.put("/patients/{patient}/programmes", **WRITE)
def put_enrolment(deps: Deps, caller: Caller, patient: str, body: Enrolment) -> Response:
    """Replace the programmes and overrides of a patient; in force when the answer comes."""
    deps.registry.patient(patient)
    decided = {
        "patient": patient,
        "reason": body.reason,
        "programmes": body.programmes,
        "overrides": [_override(one, place) for place, one in enumerate(body.overrides)],
    }
    _revise(deps, caller, ControlKind.ENROLMENT, decided, body.version)
    return _enrolled(deps, patient)


@router.get("/patients/{patient}/context", **READ)
def get_context(deps: Deps, patient: str) -> Response:
    """The clinical context of a patient with author and time, and all versions, newest first; `words` are for the
    patient's header. Version 0 means that nobody has recorded a context. The ETag is the version."""
    deps.registry.patient(patient)
    return _in_context(deps, patient)


@router.put("/patients/{patient}/context", **WRITE)
def put_context(deps: Deps, caller: Caller, patient: str, body: ClinicalContext) -> Response:
    """Replace the clinical context of a patient; in force when the answer comes."""
    deps.registry.patient(patient)
    decided = {"patient": patient} | body.model_dump(exclude={"version"})
    _revise(deps, caller, ControlKind.CONTEXT, decided, body.version)
    return _in_context(deps, patient)


@router.get("/patients/{patient}/rules", **READ)
def watching(deps: Deps, patient: str) -> Response:
    """The rules that watch a patient now, in words, each with its version and source. `gated` lists the rules that do
    not apply, with the reason."""
    return answer({"patient": patient} | deps.rulebook.watching(deps.registry.patient(patient)))


def _document(deps: Dependencies, given: str | dict[str, Any], field: str) -> dict[str, Any]:
    """A document, checked; a name is that of a shipped protocol."""
    if isinstance(given, str):
        if given not in map(_name, deps.rulebook.shipped()):
            raise InvalidRequest(field, "no such protocol comes with the program")
        document: dict[str, Any] = deps.rulebook.protocol(given)["document"]
        return document
    try:
        return dict(deps.rulebook.read(given)["document"])
    except InvalidRequest as error:
        problem = str(error).removeprefix(f"{error.field}: ")
        raise InvalidRequest(f"{field}.{error.field}", problem) from error


def _override(one: Override, place: int) -> Json:
    until_ns = _instant(one.until, f"overrides[{place}].until")
    return {"rule": one.rule, "reason": one.reason, "changes": one.changes, "off": one.off, "until_ns": until_ns}


def _instant(text: str | None, field: str) -> int | None:
    return None if text is None else parse_time(text, field)


def _version_of(decision: Decision | None) -> int:
    return 0 if decision is None else decision.version


def _revise(deps: Dependencies, caller: Principal, kind: ControlKind, body: Json, version: int | None) -> None:
    with times_as_words():
        deps.controls.revise(Control(kind, deps.clock.now_ns(), caller.name, body), version)


def _name(protocol: Mapping[str, Any]) -> str:
    return str(protocol["name"])


def _subject(decision: Decision) -> str:
    return decision.subject


def _decided(one: Decision) -> Json:
    """Who, when, why."""
    return {"version": one.version, "set": rfc3339(one.set_ns), "author": one.author or None, "reason": one.reason}


def _programme(one: Decision) -> Json:
    body = one.body
    return {
        "programme": one.subject,
        "title": body["title"],
        **_decided(one),
        "valid_from": rfc3339(body.get("valid_from_ns")),
        "review": rfc3339(body.get("review_ns")),
        "protocols": [document["name"] for document in body["protocols"]],
    }


def _shown(deps: Dependencies, programme: str) -> Response:
    versions = deps.decisions.programme_history(programme)
    read = [deps.rulebook.read(document) for document in versions[0].body["protocols"]]
    history = [
        _programme(one) | {"changes": _changes(deps, before, one)}
        for one, before in zip(versions, [*versions[1:], None], strict=True)
    ]
    body = _programme(versions[0]) | {"protocols": read, "history": history}
    return _versioned(body, versions[0])


def _changes(deps: Dependencies, before: Decision | None, after: Decision) -> list[str]:
    """What a version changed in the protocols of its programme."""
    if before is None:
        return []
    was, now = ({one["name"]: one for one in decision.body["protocols"]} for decision in (before, after))
    said = [f"{name} was left out" for name in was if name not in now]
    for name, document in now.items():
        said += deps.rulebook.diff(was[name], document) if name in was else [f"{name} was added"]
    return said


def _enrolled(deps: Dependencies, patient: str) -> Response:
    versions = deps.decisions.enrolment_history(patient)
    if not versions:
        return _versioned({"patient": patient, "programmes": [], "overrides": []}, None)
    titles = {one.subject: one for one in deps.decisions.programmes()}
    programmes = [
        {"programme": ident, "title": titles[ident].body["title"], "version": titles[ident].version}
        for ident in versions[0].body["programmes"]
        if ident in titles
    ]
    body = {"patient": patient} | _enrolment(versions[0]) | {"programmes": programmes}
    return _versioned(body | {"history": [_enrolment(one) for one in versions]}, versions[0])


def _enrolment(one: Decision) -> Json:
    overrides = [
        {"rule": each["rule"], "off": each.get("off", False), "changes": each.get("changes"),
         "until": rfc3339(each.get("until_ns")), "reason": each.get("reason")}
        for each in one.body.get("overrides", ())
    ]  # fmt: skip
    return _decided(one) | {"programmes": one.body["programmes"], "overrides": overrides}


def _in_context(deps: Dependencies, patient: str) -> Response:
    versions = deps.decisions.context_history(patient)
    if not versions:
        return _versioned({"patient": patient} | _worded(NEVER_SET), None)
    history = [_context(one) for one in versions]
    return _versioned({"patient": patient} | history[0] | {"history": history}, versions[0])


def _context(one: Decision) -> Json:
    return _decided(one) | _worded({name: one.body.get(name, default) for name, default in NEVER_SET.items()})


def _worded(context: Mapping[str, Recorded]) -> Json:
    return {**context, "words": list(context_words(context))}


def _versioned(body: Json, decision: Decision | None) -> Response:
    nobody: Json = {"version": 0, "set": None, "author": None, "reason": None, "history": []}
    return answer(nobody | body, headers={"ETag": f'"{_version_of(decision)}"'})
