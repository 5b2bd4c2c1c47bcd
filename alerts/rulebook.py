"""What people read of rules: protocols in words, what watches a patient now, and the rule behind an alert."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from alerts import silence
from alerts.compile import Adopted, Override, compile_protocols
from alerts.gates import PatientContext
from alerts.lifecycle import CONFIRM_SUFFIX
from alerts.protocol import Protocol as Document
from alerts.protocol import document, parse_protocol, patched, shipped
from alerts.rule_types import Rule
from alerts.rules import Limit, Side, parse_limits, rule_id, sides
from alerts.rules import _quantity as quantity
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import Severity
from vitals.ports import Alert, Clock, Decision, Patient

Json = dict[str, Any]
OWN_LIMITS: Final = "own limits"
"""Source of what a person set for one patient alone."""
_REVIEW: Final = "review:"
_READ: Final = 256


def rule_words(rule: Rule) -> str:
    return rule.title


def changes(before: Document, after: Document) -> list[str]:
    return [] if before == after else [f"{after.name} was changed"]


class RuleBookReader(Protocol):
    """What the rulebook needs of the alert book."""

    def limits(self, patient: str) -> tuple[int, list[Json]]:
        """(version, limits) in force."""

    def limits_history(self, patient: str) -> Sequence[Any]:
        """Every version of a patient's limits."""

    def programme_history(self, ident: str) -> list[Decision]:
        """Every version, the newest first; raises ``NotFound``."""

    def programmes(self) -> list[Decision]:
        """The newest version of every programme."""

    def enrolment(self, patient: str) -> Decision | None:
        """The one in force."""

    def enrolment_history(self, patient: str) -> list[Decision]:
        """Every version, the newest first."""

    def context(self, patient: str) -> Decision | None:
        """The one in force."""


class _Enrolled(NamedTuple):
    """What a patient's enrolment comes to at an instant."""

    adopted: tuple[Adopted, ...]
    titles: Mapping[str, str]
    overrides: tuple[Override, ...]
    context: PatientContext


def read(payload: object) -> Json:
    """A protocol in words; raises ``InvalidRequest`` with the path of the first wrong member."""
    return _shown(parse_protocol(payload)) | {"document": document(parse_protocol(payload))}


def protocol(name: str) -> Json:
    """A shipped protocol in words, with its document; raises ``NotFound``."""
    for one in shipped():
        if one.name == name:
            return _shown(one) | {"document": document(one)}
    raise NotFound("protocol", name)


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changes from one document to the other, as sentences; raises ``InvalidRequest``."""
    return changes(parse_protocol(before), parse_protocol(after))


class Rulebook:
    """Rules as the alert book has them, in words."""

    def __init__(self, book: RuleBookReader, clock: Clock) -> None:
        self._book, self._clock = book, clock

    read = staticmethod(read)
    protocol = staticmethod(protocol)
    diff = staticmethod(diff)

    @staticmethod
    def shipped() -> list[Json]:
        """The protocols that come with the program, in words."""
        return [_shown(one) for one in shipped()]

    def watching(self, patient: Patient) -> Json:
        """What watches a patient now, and what does not apply with the reason."""
        enrolled = self._enrolled(patient.id)
        compiled = compile_protocols(enrolled.adopted, enrolled.context, enrolled.overrides)
        shut = dict(compiled.gated)
        rules: list[Json] = []
        gated: list[Json] = []
        for name, rule, override, adopted in _each(enrolled):
            told = _rule(name, rule) | {"version": adopted.version, "source": enrolled.titles[adopted.programme]}
            if name in shut:
                gated.append(told | {"reason": shut[name]})
            else:
                rules.append(told | {"override": override})
        version, limits = self._book.limits(patient.id)
        own = {"version": version, "source": OWN_LIMITS, "override": 0}
        return {"rules": rules + [told | own for told in _of_limits(parse_limits(limits))], "gated": gated}

    def _enrolled(self, patient: str) -> _Enrolled:
        now_ns = self._clock.now_ns()
        decision, context = self._book.enrolment(patient), self._book.context(patient)
        body = {} if decision is None else decision.body
        in_force = [one for ident in body.get("programmes", ()) if (one := self._in_force(ident, now_ns))]
        overrides = tuple(
            Override(each["rule"], 0 if decision is None else decision.version, _changes(each))
            for each in body.get("overrides", ())
            if each.get("until_ns") is None or each["until_ns"] > now_ns
        )
        return _Enrolled(
            tuple(_adopted(one) for one in in_force),
            {one.subject: one.body["title"] for one in in_force},
            overrides,
            PatientContext() if context is None else _context(context),
        )

    def _in_force(self, programme: str, now_ns: int) -> Decision | None:
        """The newest version whose time has come."""
        try:
            versions = self._book.programme_history(programme)
        except NotFound:
            return None
        return next((one for one in versions if (one.body.get("valid_from_ns") or 0) <= now_ns), None)

    def rule(self, alert: Alert) -> Json:
        """The rule behind an alert as it was then; of a rule that nobody wrote down, what the alert says."""
        name = alert.rule.removesuffix(CONFIRM_SUFFIX).removeprefix(_REVIEW)
        kind, _, rest = name.partition(":")
        told: Json | None = None
        if kind == "limit":
            told = self._limit(alert, name)
        elif kind == "silence" and rest in BY_KEY:
            told = _silence(rest)
        elif kind != "technical":
            told = self._of_protocol(alert, kind, rest.partition("@")[0])
        unknown = {"title": alert.text, "words": alert.text, "source": "the system", "version": alert.rule_version}
        told = unknown if told is None else told
        if alert.rule.startswith(_REVIEW):
            told = told | {"words": f"A late reading would have met: {told['words']}"}
        return {"advice": "", "version": alert.rule_version} | told | {"id": alert.rule}

    def _limit(self, alert: Alert, name: str) -> Json | None:
        for one in self._book.limits_history(alert.patient):
            if one.version == alert.rule_version:
                found = [told for told in _of_limits(parse_limits(one.limits)) if told["id"] == name]
                return found[0] | {"source": OWN_LIMITS} if found else None
        return None

    def _of_protocol(self, alert: Alert, protocol: str, ident: str) -> Json | None:
        """Of the patient's programmes those that have the rule in the alert's version, else of any."""
        enrolments = self._book.enrolment_history(alert.patient)
        own = [programme for one in enrolments for programme in one.body["programmes"]]
        for programme in dict.fromkeys([*own, *(one.subject for one in self._book.programmes())]):
            for version in self._book.programme_history(programme):
                if version.version != alert.rule_version:
                    continue
                for rule in (rule for one in _adopted(version).protocols if one.name == protocol for rule in one.rules):
                    if rule.id == ident:
                        return _rule(f"{protocol}:{ident}", rule) | {"source": version.body["title"]}
        return None


def _shown(one: Document) -> Json:
    return {
        "name": one.name, "title": one.title, "version": one.version, "source": one.source, "advice": one.advice,
        "disclaimer": one.disclaimer, "rules": [_rule(rule.id, rule) for rule in one.rules],
        "left_out": [left.model_dump() for left in one.left_out],
    }  # fmt: skip


def _rule(name: str, rule: Rule) -> Json:
    return {
        "id": name, "title": rule.title, "words": rule_words(rule), "severity": rule.severity, "advice": rule.advice
    }  # fmt: skip


def _each(enrolled: _Enrolled) -> Iterator[tuple[str, Rule, int, Adopted]]:
    """Every rule of the patient's programmes once, as overridden: (name, rule, override, programme)."""
    changed = {override.rule: override for override in enrolled.overrides}
    seen: set[str] = set()
    for adopted in enrolled.adopted:
        for one in adopted.protocols:
            for rule in one.rules:
                name = f"{one.name}:{rule.id}"
                if name not in seen:
                    seen.add(name)
                    yield name, *_own(rule, changed.get(name)), adopted


def _own(rule: Rule, override: Override | None) -> tuple[Rule, int]:
    """The patient's own version of a rule, and the version of the enrolment that says so; 0 where there is none."""
    if override is None or not override.changes:
        return rule, 0
    try:
        return patched(rule, msgspec.json.decode(override.changes)), override.version
    except InvalidRequest:
        return rule, 0


def _changes(override: Mapping[str, Any]) -> str:
    """The JSON of an override's changes, as the compiler takes it; empty where the rule is off."""
    return "" if override.get("off") else msgspec.json.encode(override.get("changes") or {}, order="sorted").decode()


def _context(decision: Decision) -> PatientContext:
    return PatientContext(**{name: decision.body[name] for name in PatientContext._fields if name in decision.body})


@lru_cache(maxsize=_READ)
def _parsed(body: bytes) -> tuple[Document, ...]:
    return tuple(parse_protocol(one) for one in msgspec.json.decode(body))


def _adopted(decision: Decision) -> Adopted:
    protocols = _parsed(msgspec.json.encode(decision.body["protocols"]))
    return Adopted(decision.subject, decision.version, protocols)


def _of_limits(limits: Sequence[Limit]) -> Iterator[Json]:
    """Each side of each limit, and the silence of what is limited."""
    for limit in limits:
        for side in sides(limit):
            words = _limit_words(limit, side)
            yield {
                "id": rule_id(limit.vital, side.word, limit.severity), "title": words, "words": words,
                "severity": limit.severity, "resolves": _ending(limit, side), "advice": "",
            }  # fmt: skip
    for key in dict.fromkeys(limit.vital for limit in limits):
        yield _silence(key)


def _silence(key: str) -> Json:
    """Nothing of a vital sign that has a limit."""
    vital = BY_KEY[key]
    words = silence.describe(vital.code, vital.silence_ns(vital.mode))
    return {
        "id": silence.rule(vital.code), "title": words, "words": words, "severity": Severity.S3.name, "advice": "",
        "source": OWN_LIMITS, "resolves": "readings come again",
    }  # fmt: skip


def _limit_words(limit: Limit, side: Side) -> str:
    """``Oxygen saturation under 90 % for 60 s``."""
    line, word = (limit.low, "under") if side is Side.LOW else (limit.high, "over")
    lasting = f" for {limit.on_delay_s:g} s" if limit.on_delay_s else ""
    return f"{BY_KEY[limit.vital].name} {word} {quantity(f'{line:g}', limit.unit)}{lasting}"


def _ending(limit: Limit, side: Side) -> str:
    """``back at 92 % or more for 30 s``."""
    line = limit.low + limit.deadband if side is Side.LOW else limit.high - limit.deadband
    lasting = f" for {limit.off_delay_s:g} s" if limit.off_delay_s else ""
    ending = f"back at {quantity(f'{line:g}', limit.unit)} or {'more' if side is Side.LOW else 'less'}{lasting}"
    return f"{ending}, and a person has acknowledged it" if limit.severity == "S1" else ending
