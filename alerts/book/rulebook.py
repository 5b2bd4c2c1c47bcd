"""Rules in words: protocols, the rules that watch a patient now, and the rule of an alert."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from alerts.cases.lifecycle import CONFIRM_SUFFIX, REVIEW
from alerts.programmes.bodies import read_enrolment
from alerts.programmes.decisions import history, programmes_of, read_version
from alerts.rules.limits import Limit, Side, parse_limits, rule_id, sides, written
from alerts.rules.own import silence_rule
from alerts.rules.protocol import MonitoringProtocol, check_complete, document, parse_protocol, patched, shipped
from alerts.rules.types import Rule
from alerts.rules.words import difference, rule_words, span
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import Severity
from vitals.ports import AlertDecisions, Clock
from vitals.records import Alert, Decision, Patient

Json = dict[str, Any]
OWN_LIMITS: Final = "own limits"
"""Source of what a person set for one patient alone."""
_DECIMALS: Final = 9


def read(payload: object) -> Json:
    """A protocol in words; raises ``InvalidRequest`` with the path of the first wrong member."""
    return _shown(parse_protocol(payload))


def check(payload: object) -> Json:
    """A protocol that may be adopted, in words; raises ``InvalidRequest``, also where it leaves a gap."""
    parsed = parse_protocol(payload)
    check_complete(parsed)
    return _shown(parsed)


def protocol(name: str) -> Json:
    """A shipped protocol in words, with its document; raises ``NotFound``."""
    for one in shipped():
        if one.name == name:
            return _shown(one)
    raise NotFound("protocol", name)


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changes from one document to the other, as sentences; raises ``InvalidRequest``."""
    return difference(parse_protocol(before), parse_protocol(after))


class Rulebook:
    """Rules as the alert book has them, in words."""

    def __init__(self, book: AlertDecisions, clock: Clock) -> None:
        self._book, self._clock = book, clock

    read = staticmethod(read)
    check = staticmethod(check)
    protocol = staticmethod(protocol)
    diff = staticmethod(diff)

    @staticmethod
    def shipped() -> list[Json]:
        """The protocols that come with the program, in words."""
        read = map(_shown, shipped())
        return [{name: one[name] for name in ("name", "title", "source", "rules")} for one in read]

    def watching(self, patient: Patient) -> Json:
        """What watches a patient now, and what does not apply with the reason."""
        now_ns = self._clock.now_ns()
        state = programmes_of(self._book, patient.id, now_ns)
        shut = dict(state.compiled(patient.id).gated)
        enrolment = self._book.enrolment(patient.id)
        rules: dict[str, Json] = {}
        gated: dict[str, Json] = {}
        enrolled = () if enrolment is None else enrolment.body["programmes"]
        for version in filter(None, map(state.in_force, enrolled)):
            adopted = version.adopted
            for name, rule in _named(adopted.protocols):
                if name in rules or name in gated:
                    continue
                own, override = _own(name, rule, enrolment, now_ns)
                told = _rule(name, own, adopted.measures()) | {"version": adopted.version, "source": version.title}
                if name in shut:
                    gated[name] = told | {"reason": shut[name]}
                else:
                    rules[name] = told | {"override": override}
        number, limits = self._book.limits(patient.id)
        beside = {"version": number, "source": OWN_LIMITS, "override": 0}
        own_limits = [told | beside for told in _of_limits(parse_limits(limits))]
        return {"rules": [*rules.values(), *own_limits], "gated": list(gated.values())}

    def rule(self, alert: Alert) -> Json:
        """The rule behind an alert as it was then; of a rule that nobody wrote down, what the alert says."""
        name = alert.rule.removesuffix(CONFIRM_SUFFIX).removeprefix(REVIEW)
        kind, _, rest = name.partition(":")
        told: Json | None = None
        if kind == "limit":
            told = self._limit(alert, name)
        elif kind == "silence" and rest in BY_KEY:
            told = _silence(rest)
        elif kind != "technical":
            told = self._of_protocol(alert, name.partition("@")[0])
        unknown = {"title": alert.text, "words": alert.text, "source": "the system", "version": alert.rule_version}
        if told is None:
            told = unknown
        elif alert.rule.startswith(REVIEW):
            told = told | {"words": f"A late reading would have met: {told['words']}"}
        return {"advice": "", "version": alert.rule_version} | told | {"id": alert.rule}

    def _limit(self, alert: Alert, name: str) -> Json | None:
        for one in self._book.limits_history(alert.patient):
            if one.version == alert.rule_version:
                found = [told for told in _of_limits(parse_limits(one.limits)) if told["id"] == name]
                return found[0] | {"source": OWN_LIMITS} if found else None
        return None

    def _of_protocol(self, alert: Alert, name: str) -> Json | None:
        """Of the patient's programmes that which has the rule in the alert's version, else of any."""
        enrolments = self._book.enrolment_history(alert.patient)
        then = next((one for one in enrolments if one.set_ns <= alert.raised_ns), None)
        own = [programme for one in enrolments for programme in one.body["programmes"]]
        for programme in dict.fromkeys([*own, *(one.subject for one in self._book.programmes())]):
            for version in history(self._book, programme):
                if version.version == alert.rule_version:
                    adopted = read_version(version).adopted
                    for known, rule in _named(adopted.protocols):
                        if known == name:
                            told = _rule(name, _own(name, rule, then, alert.raised_ns)[0], adopted.measures())
                            return told | {"source": version.body["title"]}
        return None


def _shown(one: MonitoringProtocol) -> Json:
    return {
        "name": one.name, "title": one.title, "version": one.version, "source": one.source, "advice": one.advice,
        "disclaimer": one.disclaimer, "rules": [_rule(rule.id, rule, one.measures) for rule in one.rules],
        "left_out": [left.model_dump() for left in one.left_out], "document": document(one),
    }  # fmt: skip


def _rule(name: str, rule: Rule, measures: Mapping[str, str]) -> Json:
    return {
        "id": name, "title": rule.title, "words": rule_words(rule, measures), "severity": rule.severity,
        "advice": rule.advice,
    }  # fmt: skip


def _named(protocols: Sequence[MonitoringProtocol]) -> Iterator[tuple[str, Rule]]:
    return ((f"{one.name}:{rule.id}", rule) for one in protocols for rule in one.rules)


def _own(name: str, rule: Rule, enrolment: Decision | None, now_ns: int) -> tuple[Rule, int]:
    """The patient's own version of a rule, and the version of the enrolment that says so; 0 where there is none."""
    if enrolment is None:
        return rule, 0
    for override in read_enrolment(enrolment.body).overrides:
        over = override.until_ns is not None and override.until_ns <= now_ns
        if override.rule == name and override.changes and not over:
            with suppress(InvalidRequest):  # one that does not fit its rule any more leaves it as the protocol has it
                return patched(rule, override.changes), enrolment.version
    return rule, 0


def _of_limits(limits: Sequence[Limit]) -> Iterator[Json]:
    """Each side of each limit, and the silence of what is limited."""
    for limit in limits:
        for side in sides(limit):
            words = _limit_words(limit, side)
            yield {
                "id": rule_id(limit.vital, side.word, limit.severity), "title": words, "words": words,
                "severity": limit.severity, "advice": "",
            }  # fmt: skip
    for key in dict.fromkeys(limit.vital for limit in limits):
        yield _silence(key)


def _silence(key: str) -> Json:
    """Nothing of a vital sign that has a limit."""
    face = silence_rule(BY_KEY[key].code, 0).face
    return {
        "id": face.name, "title": face.title, "words": face.title, "severity": Severity.S3.name, "advice": "",
        "source": OWN_LIMITS,
    }  # fmt: skip


def _limit_words(limit: Limit, side: Side) -> str:
    """``Oxygen saturation under 90 % for 60 s``."""
    lasting = f" for {span(limit.on_delay_s)}" if limit.on_delay_s else ""
    word = "under" if side is Side.LOW else "over"
    return f"{BY_KEY[limit.vital].name} {word} {written(_line(limit, side), limit.unit)}{lasting}"


def _line(limit: Limit, side: Side) -> float:
    line = limit.low if side is Side.LOW else limit.high
    assert line is not None
    return line
