"""The patient whom an Observation names: ``subject.identifier``, or the identifiers of a Patient that comes with it.

A reference to a Patient elsewhere, a display name and a server's id are no identifiers and are not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.adapters.fhir.codes import Node, member, objects, required
from ingest.adapters.reading.stated_patient import OTHER, RECORD_NUMBER_TYPES, stated_patient
from vitals.records import NamedPatient


def named_patient(resource: Node, prefix: str, patients: Mapping[str, Node]) -> NamedPatient | None:
    """The patient of an Observation; ``patients`` are those of its Bundle by reference. Raises ``DecodeError``."""
    subject = member(resource, "subject", dict, prefix)
    if subject is None:
        return None
    path = f"{prefix}subject."
    own = member(subject, "identifier", dict, path)
    stated = [] if own is None else [_identifier(own, f"{path}identifier.")]
    reference = member(subject, "reference", str, path) or ""
    inside = [one for one in objects(resource, "contained", prefix) if f"#{one.get('id')}" == reference]
    for patient in inside or filter(None, [patients.get(reference)]):
        if patient.get("resourceType") == "Patient":
            stated += [_identifier(one, "Patient.identifier.") for one in objects(patient, "identifier", "Patient.")]
    return stated_patient(stated)


def _identifier(node: Node, prefix: str) -> tuple[str, str]:
    """(number, type): one that is no longer in use, or of none of the types of record numbers, can only agree."""
    number = member(node, "value", str, prefix) or ""
    kind = member(node, "type", dict, prefix) or {}
    codes = [required(one, "code", str, prefix) for one in objects(kind, "coding", f"{prefix}type.") if "code" in one]
    if node.get("use") == "old" or (codes and not RECORD_NUMBER_TYPES.intersection(codes)):
        return number, OTHER
    return number, ""


def patients_of(entries: Sequence[Any]) -> dict[str, Node]:
    """Patients of a Bundle by the references that its other entries make to them."""
    found: dict[str, Node] = {}
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == "Patient":
            found.update((reference, resource) for reference in _references(entry, resource))
    return found


def _references(entry: Node, resource: Node) -> Iterator[str]:
    if isinstance(url := entry.get("fullUrl"), str):
        yield url
    if isinstance(ident := resource.get("id"), str):
        yield f"Patient/{ident}"
