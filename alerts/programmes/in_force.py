"""Programmes, enrolments and clinical context in force for each patient, folded from the log's control entries.

A programme is a ward's or a team's set of protocols, in numbered versions. A patient is enrolled in programmes, with
overrides of single rules. :class:`Programmes` is state without a clock: times come in as those of the entries.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from alerts.programmes.bodies import ContextBody, EnrolmentBody, ProgrammeVersion, patch
from alerts.rules.compile import Adopted, RuleOverride, compile_protocols
from alerts.rules.coverage import check_support
from alerts.rules.gates import PatientContext
from alerts.rules.protocol import (
    MonitoringProtocol,
    check_complete,
    check_enrolment,
    check_rules,
    document,
    parse_protocol,
    patched,
    unfit,
)
from alerts.rules.spec import Compiled
from alerts.rules.types import Rule
from vitals.errors import InvalidRequest

_NOTHING: Final = Compiled()
_UNKNOWN: Final = (0, PatientContext())
_NEVER_NS: Final = 2**63


class Reminder(NamedTuple):
    """A programme that is past its review; its rules go on."""

    programme: str
    version: int
    title: str
    review_ns: int


class Due(NamedTuple):
    """What time alone has changed: patients (sorted) whose rules may be others now, and reminders, each told once."""

    patients: list[str]
    reminders: list[Reminder]


class _Programme(msgspec.Struct):
    """``versions``: what is in force, if anything is yet, and what comes; oldest first."""

    newest: int
    in_force: int
    reminded: int
    versions: list[ProgrammeVersion]

    def current(self) -> ProgrammeVersion | None:
        return self.versions[0] if self.versions and self.versions[0].adopted.version == self.in_force else None


class _Enrolment(msgspec.Struct):
    """``ends`` has the time at which an override ends, by its rule."""

    version: int
    programmes: tuple[str, ...]
    overrides: tuple[RuleOverride, ...]
    ends: dict[str, int]


class Programmes:
    """Programmes by id, enrolments and contexts by patient; the rules of each patient follow from them."""

    def __init__(self) -> None:
        self._programmes: dict[str, _Programme] = {}
        self._enrolments: dict[str, _Enrolment] = {}
        self._contexts: dict[str, tuple[int, PatientContext]] = {}
        # What follows from the rest: never in a snapshot.
        self._compiled: dict[str, Compiled] = {}
        self._next_ns: int | None = None

    def adopt(self, body: ProgrammeVersion, time_ns: int) -> list[str]:
        """A version comes into force at its time; patients whose rules may have changed. An old one changes nothing."""
        name, version = body.adopted.programme, body.adopted.version
        known = self._programmes.setdefault(name, _Programme(0, 0, 0, []))
        if version <= known.newest:
            return []
        known.newest = version
        known.versions.append(
            body._replace(valid_from_ns=time_ns if body.valid_from_ns is None else body.valid_from_ns)
        )
        self._next_ns = None
        return self._changed({name}) if _advance(known, time_ns) else []

    def enrol(self, body: EnrolmentBody) -> list[str]:
        """Replace what a patient is enrolled in; a version that is not newer changes nothing."""
        known = self._enrolments.get(body.patient)
        if known is not None and body.version <= known.version:
            return []
        overrides = tuple(RuleOverride(one.rule, body.version, patch(one)) for one in body.overrides)
        ends = {one.rule: one.until_ns for one in body.overrides if one.until_ns is not None}
        self._enrolments[body.patient] = _Enrolment(body.version, body.programmes, overrides, ends)
        self._next_ns = None
        self._compiled.pop(body.patient, None)
        return [body.patient]

    def set_context(self, body: ContextBody) -> list[str]:
        """Replace the clinical context of a patient; a version that is not newer changes nothing."""
        if body.version <= self.context_version(body.patient):
            return []
        self._contexts[body.patient] = (body.version, body.context)
        self._compiled.pop(body.patient, None)
        return [body.patient] if body.patient in self._enrolments else []

    def due(self, watermark_ns: int) -> Due:
        """Let time pass: versions come into force, overrides end, reviews fall due. Cheap while nothing does."""
        if self._next_ns is None:
            self._next_ns = self._next_change()
        if watermark_ns < self._next_ns:
            return Due([], [])
        moved = {name for name, known in self._programmes.items() if _advance(known, watermark_ns)}
        patients = set(self._changed(moved))
        for patient, enrolment in self._enrolments.items():
            over = {rule for rule, end_ns in enrolment.ends.items() if end_ns <= watermark_ns}
            if over:
                enrolment.overrides = tuple(one for one in enrolment.overrides if one.rule not in over)
                enrolment.ends = {rule: end_ns for rule, end_ns in enrolment.ends.items() if rule not in over}
                patients.add(patient)
                self._compiled.pop(patient, None)
        self._next_ns = None
        return Due(sorted(patients), self._reminders(watermark_ns))

    def _reminders(self, watermark_ns: int) -> list[Reminder]:
        reminders = []
        for name, known in sorted(self._programmes.items()):
            one = _unreviewed(known)
            if one is not None and one.review_ns is not None and one.review_ns <= watermark_ns:
                known.reminded = one.adopted.version
                reminders.append(Reminder(name, one.adopted.version, one.title, one.review_ns))
        return reminders

    def _next_change(self) -> int:
        times = [end_ns for enrolment in self._enrolments.values() for end_ns in enrolment.ends.values()]
        for known in self._programmes.values():
            times += [one.valid_from_ns or 0 for one in known.versions if one.adopted.version > known.in_force]
            one = _unreviewed(known)
            if one is not None and one.review_ns is not None:
                times.append(one.review_ns)
        return min(times, default=_NEVER_NS)

    def _changed(self, programmes: set[str]) -> list[str]:
        patients = self._enrolled(programmes)
        for patient in patients:
            self._compiled.pop(patient, None)
        return patients

    def _enrolled(self, programmes: set[str]) -> list[str]:
        if not programmes:
            return []
        return sorted(patient for patient, one in self._enrolments.items() if not programmes.isdisjoint(one.programmes))

    def compiled(self, patient: str) -> Compiled:
        """Everything that watches a patient by protocols; nothing for one who is not enrolled."""
        found = self._compiled.get(patient)
        if found is not None:
            return found
        enrolment = self._enrolments.get(patient)
        if enrolment is None:
            return _NOTHING
        adopted = self._adopted(enrolment.programmes)
        found = self._compiled[patient] = compile_protocols(adopted, self.context(patient), enrolment.overrides)
        return found

    def groups(self, patients: Iterable[str]) -> list[tuple[Compiled, list[str]]]:
        """Patients by what watches them, in the order of the first of each."""
        found: dict[int, tuple[Compiled, list[str]]] = {}
        for patient in patients:
            compiled = self.compiled(patient)
            found.setdefault(id(compiled), (compiled, []))[1].append(patient)
        return list(found.values())

    def _adopted(self, programmes: Iterable[str]) -> tuple[Adopted, ...]:
        known = (self._programmes.get(name) for name in programmes)
        current = (one.current() for one in known if one is not None)
        return tuple(one.adopted for one in current if one is not None)

    def version(self, programme: str) -> int:
        """The newest version of a programme, 0 for none."""
        known = self._programmes.get(programme)
        return 0 if known is None else known.newest

    def in_force(self, programme: str) -> ProgrammeVersion | None:
        """The version of a programme that is in force."""
        known = self._programmes.get(programme)
        return None if known is None else known.current()

    def enrolment_version(self, patient: str) -> int:
        """0 for one who was never enrolled."""
        known = self._enrolments.get(patient)
        return 0 if known is None else known.version

    def context(self, patient: str) -> PatientContext:
        """The clinical context in force."""
        return self._contexts.get(patient, _UNKNOWN)[1]

    def context_version(self, patient: str) -> int:
        """0 where nobody has recorded any."""
        return self._contexts.get(patient, _UNKNOWN)[0]

    def check_programme(self, body: ProgrammeVersion) -> None:
        """Refuse a version that is not new, leaves a gap, or does not fit an enrolled patient; raises
        ``InvalidRequest``."""
        name = body.adopted.programme
        if body.adopted.version <= self.version(name):
            raise InvalidRequest("version", f"was changed meanwhile: version {self.version(name)} is the newest")
        for number, protocol in enumerate(body.adopted.protocols):
            try:
                check_complete(protocol)
            except InvalidRequest as error:
                raise InvalidRequest(f"protocols[{number}].{error.field}", _problem(error)) from error
        for patient in self._enrolled({name}):
            others = self._adopted(one for one in self._enrolments[patient].programmes if one != name)
            try:
                _check_fit(_protocols((*others, body.adopted)), self.context(patient))
            except InvalidRequest as error:
                raise InvalidRequest("protocols", f"of a patient who is enrolled: {_problem(error)}") from error

    def unfit_overrides(self, body: ProgrammeVersion) -> list[tuple[str, str, str]]:
        """(patient, rule, problem) of overrides that a new version would leave without effect: show before adopting."""
        name = body.adopted.programme
        rules = {f"{protocol.name}:{rule.id}": rule for protocol in body.adopted.protocols for rule in protocol.rules}
        before = _protocols(self._newest([name]))
        known = {f"{protocol.name}:{rule.id}" for protocol in before for rule in protocol.rules}
        found = []
        for patient in self._enrolled({name}):
            for override in self._enrolments[patient].overrides:
                if override.rule in known | rules.keys():
                    problem = _unfit(rules.get(override.rule), override)
                    found += [(patient, override.rule, problem)] if problem else []
        return found

    def check_enrolment(self, body: EnrolmentBody, time_ns: int) -> None:
        """Refuse what does not fit: an old version, an unknown programme, a protocol that is not for the patient or
        comes twice, an override of no rule or with wrong words, or one that is over; raises ``InvalidRequest``."""
        if body.version <= self.enrolment_version(body.patient):
            version = self.enrolment_version(body.patient)
            raise InvalidRequest("version", f"was changed meanwhile: version {version} is in force")
        for number, name in enumerate(body.programmes):
            if name not in self._programmes:
                raise InvalidRequest(f"programmes[{number}]", f"there is no programme {name}")
        protocols = _protocols(self._newest(body.programmes))
        _check_fit(protocols, self.context(body.patient))
        for number, override in enumerate(body.overrides):
            if override.until_ns is not None and override.until_ns <= time_ns:
                raise InvalidRequest(f"overrides[{number}].until_ns", "is not in the future")
        _check_overrides(body, protocols)

    def check_context(self, body: ContextBody) -> None:
        """Refuse an old version, and a context that protocols of the patient are not for; raises ``InvalidRequest``
        with the member."""
        version = self.context_version(body.patient)
        if body.version <= version:
            raise InvalidRequest("version", f"was changed meanwhile: version {version} is in force")
        enrolment = self._enrolments.get(body.patient)
        protocols = _protocols(self._newest(enrolment.programmes if enrolment else ()))
        for protocol in protocols:
            found = unfit(protocol, body.context)
            if found is not None:
                raise InvalidRequest(found[0], f"end the enrolment first: {found[1]}")
        try:
            check_support(_rules(protocols), body.context)
        except InvalidRequest as error:
            raise InvalidRequest("mechanical_support", f"change the enrolment first: {_problem(error)}") from error

    def _newest(self, programmes: Iterable[str]) -> tuple[Adopted, ...]:
        return tuple(self._programmes[name].versions[-1].adopted for name in programmes if name in self._programmes)

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal states give equal bytes."""
        return {
            "programmes": [
                [name, known.newest, known.in_force, known.reminded, [_dumped(one) for one in known.versions]]
                for name, known in sorted(self._programmes.items())
            ],
            "enrolments": [
                [patient, one.version, list(one.programmes), [list(override) for override in one.overrides],
                 sorted(one.ends.items())]
                for patient, one in sorted(self._enrolments.items())
            ],
            "contexts": [
                [patient, version, *context] for patient, (version, context) in sorted(self._contexts.items())
            ],
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "Programmes":
        """The inverse of :meth:`dump`. Raises ``KeyError``, ``ValueError`` or ``InvalidRequest`` for what is none."""
        out = cls()
        for name, newest, in_force, reminded, versions in state["programmes"]:
            out._programmes[name] = _Programme(newest, in_force, reminded, [_loaded(name, one) for one in versions])
        for patient, version, programmes, overrides, ends in state["enrolments"]:
            own = tuple(RuleOverride(*one) for one in overrides)
            out._enrolments[patient] = _Enrolment(version, tuple(programmes), own, dict(ends))
        out._contexts = {
            patient: (version, PatientContext(*context)) for patient, version, *context in state["contexts"]
        }
        return out


def _dumped(one: ProgrammeVersion) -> list[Any]:
    documents = [document(protocol) for protocol in one.adopted.protocols]
    return [one.adopted.version, documents, one.title, one.reason, one.valid_from_ns, one.review_ns]


def _loaded(programme: str, state: list[Any]) -> ProgrammeVersion:
    version, documents, *rest = state
    return ProgrammeVersion(Adopted(programme, version, tuple(map(parse_protocol, documents))), *rest)


def _advance(known: _Programme, now_ns: int) -> bool:
    """Let the newest version whose time has come into force; whether that is another one than before."""
    ready = [
        number
        for number, one in enumerate(known.versions)
        if one.adopted.version > known.in_force and (one.valid_from_ns or 0) <= now_ns
    ]
    if not ready:
        return False
    del known.versions[: ready[-1]]
    known.in_force = known.versions[0].adopted.version
    return True


def _unreviewed(known: _Programme) -> ProgrammeVersion | None:
    """The version in force, unless it was reminded of."""
    one = known.current()
    return None if one is None or one.adopted.version == known.reminded else one


def _protocols(adopted: Iterable[Adopted]) -> list[MonitoringProtocol]:
    return [protocol for one in adopted for protocol in one.protocols]


def _rules(protocols: Iterable[MonitoringProtocol]) -> list[Rule]:
    return [rule for protocol in protocols for rule in protocol.rules]


def _check_fit(protocols: Sequence[MonitoringProtocol], context: PatientContext) -> None:
    check_enrolment(protocols, context)
    check_support(_rules(protocols), context)


def _problem(error: InvalidRequest) -> str:
    return str(error).removeprefix(f"{error.field}: ")


def _unfit(rule: Rule | None, override: RuleOverride) -> str:
    if rule is None:
        return "there is no such rule any more"
    try:
        patched(rule, json.loads(override.changes or "{}"))
    except InvalidRequest as error:
        return str(error)
    return ""


def _check_overrides(body: EnrolmentBody, protocols: list[MonitoringProtocol]) -> None:
    """Each override fits its rule, and each protocol as the patient would have it does not contradict itself."""
    own = {f"{protocol.name}:{rule.id}": rule for protocol in protocols for rule in protocol.rules}
    kept: dict[str, Rule | None] = dict(own)
    for number, override in enumerate(body.overrides):
        if override.rule not in own:
            raise InvalidRequest(f"overrides[{number}].rule", f"no protocol of the patient has {override.rule}")
        try:
            kept[override.rule] = None if override.off else patched(own[override.rule], override.changes or {})
        except InvalidRequest as error:
            raise InvalidRequest(f"overrides[{number}].{error.field}", _problem(error)) from error
    for protocol in protocols:
        rules = (kept[f"{protocol.name}:{rule.id}"] for rule in protocol.rules)
        try:
            check_rules(protocol.model_copy(update={"rules": tuple(rule for rule in rules if rule is not None)}))
        except InvalidRequest as error:
            raise InvalidRequest("overrides", f"{protocol.name} contradicts itself: {_problem(error)}") from error
