"""``fhir``: FHIR R4 Observations, alone or in a Bundle (device-formats.md 4; interop.md 1.1, 1.2).

A reading is the value of an Observation or of one of its components, known by any of its LOINC, MDC and SNOMED CT
codings. Its patient is that of the device: an identifier of the subject is compared with the assignment, in memory
only. Of free text, names and references nothing is copied.

Identity (device-formats.md 4.4): the effective time as sent, and ``seq``: a hash below 0 of the sender's identifier,
an opaque key, where there is one, else 0. Without any time the receipt time, and ``ordinal * 4096 + entry`` for want
of an identifier. A corrected Observation keeps its identity and is a revision; one ``entered-in-error`` or
``cancelled`` gives the same rows RETRACTED. Without an identifier two values of one time under two resource ids, or
without an id in two messages or two entries of a Bundle, are two measurements.

A bad Observation is rejected alone; of one with a bad component the rest is kept. Members that only add to a value
(identifier, interpretation, body site, other components) are left out and counted when they cannot be read. Resources
that are no vital sign, and components that name neither a vital sign nor a public code, are ignored and counted; a
number under an unknown public code is told on the worklist of unknown codes. Members of a panel (``hasMember``) are
read where they stand: as entries of the Bundle, or contained in the panel. A battery level is an event.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.adapter import Adapter, Context, Decoded, Reject
from ingest.adapters.fhir import codes, times, values
from ingest.adapters.fhir.codes import Node, member, required
from ingest.adapters.fhir.observation import ObservationOutput, ObservationSource, add_observation
from ingest.adapters.fhir.subject import patients_of
from ingest.adapters.fhir.times import Coincident
from ingest.adapters.reading.json_document import Repeated, parse
from ingest.files.json_splitting import JsonRecords
from vitals.catalog import VITALS
from vitals.errors import DecodeError
from vitals.glossary import Reason
from vitals.model import Message

_OBSERVATION: Final = "Observation"
_BUNDLE: Final = "Bundle"
_KINDS: Final = MappingProxyType({"": (_OBSERVATION, _BUNDLE), "observation": (_OBSERVATION,), "bundle": (_BUNDLE,)})
_BUNDLE_TYPES: Final = frozenset({"transaction", "batch", "collection"})
_ESCAPED_COLON: Final = rb"\u003"
"""How ``\\u003a`` and ``\\u003A`` begin."""
_DECODER: Final = msgspec.json.Decoder()
_ENCODER: Final = msgspec.json.Encoder()


def _read(payload: bytes) -> tuple[Any, bool]:
    """The document, and whether objects of it may give a member twice.

    The fast decoder takes the last of two equal members without a word. While no colon is written as an escape, colons
    tell: what is left of the document has as many as the payload, unless a member was dropped.
    """
    if _ESCAPED_COLON not in payload:
        try:
            tree = _DECODER.decode(payload)
            if _ENCODER.encode(tree).count(b":") == payload.count(b":"):
                return tree, False
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            pass
    return parse(payload), True


def _refuse_repeated(node: Any, path: str) -> None:
    """Raise ``DecodeError`` when an object in ``node`` gives a member twice: which of them was meant is a guess."""
    left = [node]
    while left:
        one = left.pop()
        if isinstance(one, Repeated):
            raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _resource_type(node: Node, prefix: str) -> str:
    return required(node, "resourceType", str, prefix)


def _observation(entry: Any, path: str) -> Node | None:
    """The Observation of a Bundle's entry, None when it holds another resource."""
    if not isinstance(entry, dict):
        raise DecodeError(Reason.BAD_TYPE, path)
    if isinstance(entry, Repeated):
        raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
    resource = required(entry, "resource", dict, f"{path}.")
    if isinstance(resource, Repeated):
        raise DecodeError(Reason.MALFORMED, f"{path}.resource: a member is given twice")
    return resource if _resource_type(resource, f"{path}.resource.") == _OBSERVATION else None


def _clocks(entries: Sequence[Any]) -> dict[str, Coincident]:
    """Coincident time stamps of a Bundle by the references that its other entries make to them."""
    clocks: dict[str, Coincident] = {}
    for entry in entries:
        try:
            resource = _observation(entry, "")
            if resource is not None and times.is_coincident(resource, ""):
                clock = times.coincident(resource, "")
                for reference in (entry.get("fullUrl"), f"{_OBSERVATION}/{resource.get('id')}"):
                    if isinstance(reference, str):
                        clocks[reference] = clock
        except DecodeError:
            continue  # It is rejected as an entry of its own.
    return clocks


def _add_bundle(bundle: Node, source: ObservationSource, out: ObservationOutput, may_repeat: bool) -> None:
    if required(bundle, "type", str, "") not in _BUNDLE_TYPES:
        raise DecodeError(Reason.BAD_VALUE, "type")
    entries = member(bundle, "entry", list, "") or []
    if b"derivedFrom" in source.message.payload or may_repeat:
        source.clocks = _clocks(entries)
    if source.checks_patient and b"Patient" in source.message.payload:
        source.patients = patients_of(entries)
    for number, entry in enumerate(entries):
        path = f"entry[{number}]"
        source.entry, source.prefix = number, f"{path}.resource."
        try:
            resource = _observation(entry, path)
            if resource is None:
                out.ignored += 1
                continue
            if may_repeat:
                _refuse_repeated(resource, f"{path}.resource")
            add_observation(resource, source, out)
        except DecodeError as problem:
            out.problems.append(problem)


def _add_document(source: ObservationSource, out: ObservationOutput) -> None:
    """Everything that a message gives; what is wrong with parts of it is noted as problems."""
    accepted = _KINDS.get(source.message.kind)
    if accepted is None:
        raise DecodeError(Reason.UNKNOWN_KIND)
    tree, may_repeat = _read(source.message.payload)
    if not isinstance(tree, dict):
        raise DecodeError(Reason.BAD_TYPE, "$")
    if isinstance(tree, Repeated):
        raise DecodeError(Reason.MALFORMED, "$: a member is given twice")
    kind = _resource_type(tree, "")
    if kind not in {_OBSERVATION, _BUNDLE}:
        out.ignored += 1
        return
    if kind not in accepted:
        raise DecodeError(Reason.BAD_VALUE, "resourceType")
    if kind == _BUNDLE:
        _add_bundle(tree, source, out, may_repeat)
        return
    if may_repeat:
        _refuse_repeated(tree, "$")
    add_observation(tree, source, out)


def _reject(index: int, problems: Sequence[DecodeError]) -> Reject:
    first, others = problems[0], len(problems) - 1
    return Reject(index, first.reason, f"{first.detail}; {others} more" if others else first.detail)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings as sent; events for absent values, clocks that cannot be trusted, and values not to be alerted on."""
    out = ObservationOutput()
    rejects: list[Reject] = []
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        source = ObservationSource(
            index, message, _setting(context, "sampled_data_tokens"), _setting(context, "status_code"),
            checks_patient=context.settings.get("patient") != "ignore",
        )  # fmt: skip
        try:
            _add_document(source, out)
        except DecodeError as problem:
            out.problems.append(problem)
        if out.problems:
            rejects.append(_reject(index, out.problems))
            out.problems = []
    readings = out.readings
    return Decoded(
        readings.build(), out.events, rejects, out.ignored, out.left_out, readings.documents(), readings.corrections(),
        readings.named,
    )  # fmt: skip


_DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {"sampled_data_tokens": values.TOKENS, "status_code": codes.MEASUREMENT_STATUS}
)


def _setting(context: Context, name: str) -> str:
    return context.settings.get(name) or _DEFAULTS[name]


ADAPTER = Adapter(
    name="fhir",
    version=2,
    title="FHIR R4 Observation",
    kinds=MappingProxyType(
        {
            "observation": "one Observation",
            "bundle": "a Bundle of type transaction, batch or collection",
            "": "either; the member resourceType decides",
        }
    ),
    vitals=frozenset(vital.key for vital in VITALS if not vital.panel and (vital.loinc or vital.mdc)),
    decode=decode,
    max_payload=255 * 1024,
    settings=MappingProxyType(
        {
            "sampled_data_tokens": "three letters that stand in SampledData for an error, a value below and one above "
            f"the limits; `{values.TOKENS}` by default",
            "status_code": "MDC code of the measurement status, whose bits are codes like `67911.4`; "
            f"`{codes.MEASUREMENT_STATUS}` by default",
            "patient": "check (default): where the subject is identified by another record number than that of the "
            "wearer, the readings wait as unassigned; ignore: the sender's numbers are not those of the site",
        }
    ),
    files=MappingProxyType({"": JsonRecords(("entry",), array=False)}),
)
