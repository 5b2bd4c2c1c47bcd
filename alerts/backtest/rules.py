"""Rules to try, as the control entries that put them in force: limits, a protocol, or the present rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from alerts.backtest.run import AUTHOR, RuleSet, Watched
from alerts.programmes.bodies import ProgrammeVersion, patch, read_context, read_enrolment, read_programme
from alerts.rules.compile import RuleOverride, compile_protocols
from alerts.rules.gates import PatientContext
from alerts.rules.limits import compile_limit, parse_limits, rule_id, sides
from alerts.rules.protocol import check_enrolment, document, parse_protocol
from alerts.rules.spec import Compiled, CompiledRule, Kind
from alerts.scores.tables import SOURCES
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.times import DAY_NS

IN_FORCE: Final = "in force"
PROGRAMME: Final = "backtest"
USUAL_DAYS: Final = 14
"""How far back a patient's usual values reach (clinical.md 4.4)."""
HISTORY_NS: Final = 400 * DAY_NS
"""Longer than any rule looks back."""
_NO_DEVICES: Final = "what devices tell beside readings is not replayed"
_SCORED: Final = tuple(tuple(BY_KEY[key].code for key in keys) for keys in SOURCES.values() if keys != ("acvpu",))
"""What a score reads; how awake somebody is, and on air, may be assumed."""


class Decisions(NamedTuple):
    """What people decided about patients: bodies of the control entries in force, by patient or programme."""

    limits: Mapping[str, Sequence[Any]] = {}
    contexts: Mapping[str, Mapping[str, Any]] = {}
    enrolments: Mapping[str, Mapping[str, Any]] = {}
    programmes: Mapping[str, Mapping[str, Any]] = {}


def rule_set(name: str, rules: object, patients: Sequence[str], known: Decisions, at_ns: int) -> RuleSet:
    """Rules to try: a protocol that all patients are enrolled in, and nothing else; or a list of limits that takes the
    place of their own, beside the programmes that they are in.

    Raises:
        InvalidRequest: with the path of the first wrong word.
    """
    if isinstance(rules, list):
        return in_force(known._replace(limits=dict.fromkeys(patients, rules)), patients, at_ns)._replace(name=name)
    return _protocol_set(name, rules, patients, known, at_ns)


def in_force(known: Decisions, patients: Sequence[str], at_ns: int) -> RuleSet:
    """What watches the patients today, for good: overrides that end later are kept, reviews remind nobody."""
    tried = _Tried(IN_FORCE, at_ns)
    for body in known.programmes.values():
        tried.adopt({**body, "valid_from_ns": None, "review_ns": None})
    for patient in patients:
        tried.know(patient, known.contexts.get(patient))
        enrolment = known.enrolments.get(patient)
        if enrolment is not None:
            overrides = [{**one, "until_ns": None} for one in enrolment.get("overrides", ())]
            tried.enrol({**enrolment, "overrides": overrides})
        if patient in known.limits:
            tried.limit(patient, known.limits[patient])
    return tried.done()


def _protocol_set(name: str, payload: object, patients: Sequence[str], known: Decisions, at_ns: int) -> RuleSet:
    protocol, tried = parse_protocol(payload), _Tried(name, at_ns)
    tried.adopt({"programme": PROGRAMME, "version": 1, "title": protocol.title, "reason": AUTHOR,
                 "protocols": [document(protocol)]})  # fmt: skip
    for patient in patients:
        context = tried.know(patient, known.contexts.get(patient))
        try:
            check_enrolment([protocol], context)
        except InvalidRequest as error:
            tried.gated.append((patient, protocol.name, str(error).partition(f"{protocol.name} ")[2]))
            continue
        tried.enrol({"patient": patient, "version": 1, "reason": AUTHOR, "programmes": [PROGRAMME]})
    return tried.done()


class _Tried:
    """A rule set as it grows: its control entries, and what each rule needs."""

    def __init__(self, name: str, at_ns: int) -> None:
        self.name, self._at_ns = name, at_ns
        self.gated: list[tuple[str, str, str]] = []
        self._controls: list[Control] = []
        self._watched: list[Watched] = []
        self._programmes: dict[str, ProgrammeVersion] = {}
        self._contexts: dict[str, PatientContext] = {}
        self._silences: set[str] = set()
        self._delay_ns = self._history_ns = 0

    def adopt(self, body: Mapping[str, Any]) -> None:
        """A programme; raises ``InvalidRequest``."""
        version = read_programme(body)
        self._programmes[version.adopted.programme] = version
        self._say(ControlKind.PROGRAMME, body)

    def know(self, patient: str, body: Mapping[str, Any] | None) -> PatientContext:
        """The clinical context of a patient, nothing where it was never recorded."""
        if body is None:
            return PatientContext()
        self._say(ControlKind.CONTEXT, body)
        found = self._contexts[patient] = read_context(body).context
        return found

    def enrol(self, body: Mapping[str, Any]) -> None:
        """What a patient's programmes come to is noted."""
        read = read_enrolment(body)
        self._say(ControlKind.ENROLMENT, body)
        adopted = tuple(self._programmes[name].adopted for name in read.programmes if name in self._programmes)
        overrides = tuple(RuleOverride(one.rule, read.version, patch(one)) for one in read.overrides)
        context = self._contexts.get(read.patient, PatientContext())
        compiled = compile_protocols(adopted, context, overrides)
        self.gated += [(read.patient, rule, reason) for rule, reason in compiled.gated]
        self.gated += [(read.patient, trouble.face.name, _NO_DEVICES) for trouble in compiled.troubles]
        self._silences.update(silence.face.name for silence in compiled.silences)
        self._watched += [Watched(read.patient, rule, needs) for rule, needs in _needs(compiled)]
        for rule in compiled.rules:
            self._lasts(rule)

    def limit(self, patient: str, limits: Sequence[Any]) -> None:
        """A patient's own limits; raises ``InvalidRequest``."""
        parsed = parse_limits(list(limits))
        shown = [limit.model_dump(mode="json") for limit in parsed]
        self._say(ControlKind.LIMITS, {"patient": patient, "version": 1, "reason": AUTHOR, "limits": shown})
        for limit in parsed:
            self._delay_ns = max(self._delay_ns, *(spec.on_delay_ns for spec in compile_limit(limit)))
            for side in sides(limit):
                rule = rule_id(limit.vital, side.word, limit.severity)
                self._watched.append(Watched(patient, rule, ((BY_KEY[limit.vital].code,),)))

    def done(self) -> RuleSet:
        """What grew."""
        return RuleSet(
            self.name, tuple(self._controls), tuple(self._watched), tuple(self.gated), self._delay_ns, self._history_ns,
            tuple(sorted(self._silences)),
        )  # fmt: skip

    def _say(self, kind: ControlKind, body: Mapping[str, Any]) -> None:
        self._controls.append(Control(kind, self._at_ns, AUTHOR, dict(body)))

    def _lasts(self, rule: CompiledRule) -> None:
        for one in (rule, *rule.members):
            spec = one.spec
            self._delay_ns = max(self._delay_ns, spec.on_delay_ns)
            if spec.kind == Kind.TREND:
                self._history_ns = max(self._history_ns, spec.window_ns + DAY_NS)
            elif spec.kind == Kind.DEVIATION:
                self._history_ns = max(self._history_ns, USUAL_DAYS * DAY_NS)


def _needs(compiled: Compiled) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
    """(rule, what it reads): of each part one vital of several. ``copd:P5-hr@pulse_rate`` is no rule of its own."""
    found: dict[str, list[set[int]]] = {}
    for rule in compiled.rules:
        parts: list[Iterable[int]] = [*_read(rule)]
        known = found.setdefault(rule.face.name.partition("@")[0], [set() for _ in parts])
        for vitals, more in zip(known, parts, strict=True):
            vitals.update(more)
    for name, read in found.items():
        yield name, tuple(tuple(sorted(vitals)) for vitals in read)


def _read(rule: CompiledRule) -> Iterator[Iterable[int]]:
    for one in rule.members or (rule,):
        if one.spec.kind == Kind.SCORE:
            yield from _SCORED
        else:
            yield (one.spec.vital,)
