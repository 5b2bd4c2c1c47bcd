"""Patients: identity, status, devices and limits."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Query, Response

from dashboard_api.auth.access import Caller, Permission, needs
from dashboard_api.dependencies import Dependencies, Deps
from dashboard_api.routes.paging import after_cursor
from dashboard_api.schemas import LimitsQuery, NewPatient, Paging, PatientChange, StatusChange
from dashboard_api.shapes import Json, answer, assignment_json, page, patient_json, whole
from dashboard_api.times import parse_time, times_as_words
from vitals.canary import is_canary
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.records import LimitsVersion, Patient
from vitals.times import SECOND_NS, rfc3339
from vitals.units import to_canonical
from vitals.vault import Identity

router = APIRouter(tags=["patients"])


@router.get("/patients", **needs(Permission.PATIENTS_READ))
def list_patients(deps: Deps, query: Annotated[Paging, Query()]) -> Response:
    """List patients by creation, with identities."""
    found = after_cursor([one for one in deps.registry.patients() if not is_canary(one.id)], query, _token)
    identities = deps.identities.all()
    return answer(page(found, query.limit, lambda one: patient_json(one, identities.get(one.id)), _token))


@router.post("/patients", status_code=201, **needs(Permission.PATIENTS_WRITE))
def add_patient(deps: Deps, body: NewPatient) -> Response:
    """Add a patient. The answer has the token that stands for the patient everywhere else."""
    _check_birth(deps, body.birth_date)
    patient = deps.registry.add_patient(zone=body.zone, condition=body.condition)
    identity = Identity(body.name, body.birth_date, body.mrn)
    deps.identities.put(patient.id, identity)
    return answer(patient_json(patient, identity), 201, {"Location": f"/api/v1/patients/{patient.id}"})


@router.get("/patients/{patient}", **needs(Permission.PATIENTS_READ))
def get_patient(deps: Deps, patient: str) -> Response:
    """One patient."""
    return answer(_shown(deps, deps.registry.patient(patient)))


@router.patch("/patients/{patient}", **needs(Permission.PATIENTS_WRITE))
def change_patient(deps: Deps, patient: str, body: PatientChange) -> Response:
    """Change the given members; a null birth date or record number is cleared. A new zone applies from now on."""
    given = body.model_dump(include={"name", "birth_date", "mrn"}, exclude_unset=True)
    if "name" in given and body.name is None:
        raise InvalidRequest("name", "cannot be cleared")
    _check_birth(deps, body.birth_date)
    deps.registry.patient(patient)
    changed = deps.registry.update_patient(patient, zone=body.zone, condition=body.condition)
    if given:
        known = deps.identities.get(patient) or Identity("")
        deps.identities.put(patient, msgspec.structs.replace(known, **given))
    return answer(_shown(deps, changed))


@router.get("/patients/{patient}/status", **needs(Permission.PATIENTS_READ))
def status_history(deps: Deps, patient: str) -> Response:
    """Statuses of a patient, by time."""
    rows = deps.registry.statuses(patient)
    return answer(whole([{"status": word, "from": rfc3339(start), "to": rfc3339(end)} for word, start, end in rows]))


@router.put("/patients/{patient}/status", **needs(Permission.PATIENTS_WRITE))
def put_status(deps: Deps, caller: Caller, patient: str, body: StatusChange) -> Response:
    """Set the status: active, paused, hospitalised or discharged, from a time on (default: now). `check` is the time at
    which to ask whether the status should continue. If the request fails, repeat it: that makes both records agree."""
    now_ns = deps.clock.now_ns()
    from_ns = now_ns if body.from_ is None else parse_time(body.from_, "from")
    check_ns = None if body.check is None else parse_time(body.check, "check")
    told = {"patient": patient, "status": body.status, "from_ns": from_ns, "check_ns": check_ns}
    with times_as_words():
        changed = deps.controls.set_status(Control(ControlKind.STATUS, now_ns, caller.name, told))
    return answer(_shown(deps, changed))


router.post("/patients/{patient}/status", operation_id="post_status", **needs(Permission.PATIENTS_WRITE))(put_status)


@router.get("/patients/{patient}/assignments", **needs(Permission.PATIENTS_READ))
def list_assignments(deps: Deps, patient: str) -> Response:
    """Assignments of a patient's devices, by time."""
    deps.registry.patient(patient)
    return answer(whole([assignment_json(one) for one in deps.registry.assignments(patient=patient)]))


@router.get("/patients/{patient}/limits", **needs(Permission.LIMITS_READ))
def get_limits(deps: Deps, patient: str) -> Response:
    """The limits in force, as a plain list. The ETag is their version."""
    deps.registry.patient(patient)
    return _limits(deps, patient)


@router.get("/patients/{patient}/limits/history", **needs(Permission.LIMITS_READ))
def limits_history(deps: Deps, patient: str) -> Response:
    """All versions of the limits, newest first. A version is in force from `set` until the next version. Values are in
    the catalogue's unit, like those of a series."""
    deps.registry.patient(patient)
    return answer(whole([_version(one) for one in deps.decisions.limits_history(patient)]))


@router.put("/patients/{patient}/limits", **needs(Permission.LIMITS_WRITE))
def put_limits(
    deps: Deps,
    caller: Caller,
    patient: str,
    limits: Annotated[list[Any], Body()],
    query: Annotated[LimitsQuery, Query()],
) -> Response:
    """Replace all limits. They are in force when the answer is sent."""
    deps.registry.patient(patient)
    parsed = deps.parse_limits(limits)
    body = {"patient": patient, "reason": query.reason, "limits": parsed}
    deps.controls.revise(Control(ControlKind.LIMITS, deps.clock.now_ns(), caller.name, body))
    return _limits(deps, patient)


def _limits(deps: Dependencies, patient: str) -> Response:
    version, limits = deps.decisions.limits(patient)
    return answer(limits, headers={"ETag": f'"{version}"'})


def _version(one: LimitsVersion) -> Json:
    return {
        "version": one.version,
        "set": rfc3339(one.set_ns),
        "author": one.author or None,
        "reason": one.reason or None,
        "limits": [_in_catalogue_unit(limit) for limit in one.limits],
    }


def _in_catalogue_unit(limit: Json) -> Json:
    """What a chart draws of a limit."""
    vital = BY_KEY[limit["vital"]]
    low, high = (
        None if limit[end] is None else float(to_canonical(limit[end], limit["unit"], vital.unit))
        for end in ("low", "high")
    )
    return {"vital": vital.key, "unit": vital.unit, "low": low, "high": high, "severity": limit["severity"]}


def _token(patient: Patient) -> str:
    return patient.id


def _shown(deps: Dependencies, patient: Patient) -> Json:
    return patient_json(patient, deps.identities.get(patient.id))


def _check_birth(deps: Dependencies, birth_date: str | None) -> None:
    # East of Greenwich tomorrow has begun already.
    tomorrow = datetime.fromtimestamp(deps.clock.now_ns() / SECOND_NS, UTC).date() + timedelta(days=1)
    if birth_date is not None and birth_date > tomorrow.isoformat():
        raise InvalidRequest("birth_date", "is in the future")
