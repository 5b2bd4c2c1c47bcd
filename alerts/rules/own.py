"""A patient's own limits as rules of the engine, with the owner of their alerts if no programme names one."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from alerts.rules.limits import Limit, Side, compile_limit, rule_id, spoken
from alerts.rules.spec import CompiledRule, CompiledSilence, RuleFace
from alerts.rules.types import CAUSES
from vitals.catalog import BY_CODE, BY_KEY
from vitals.glossary import Severity
from vitals.times import HOUR_NS, MINUTE_NS

ROLE: Final = "nurse"
_PATIENCE_S: Final[Mapping[Severity, tuple[int, int]]] = MappingProxyType(
    {Severity.S1: (300, 900), Severity.S2: (3600, 3600), Severity.S3: (86_400, 86_400)}
)
"""How long an alert waits for a person, and for a new measurement (clinical.md 4.7)."""


def plain_face(name: str, version: int, title: str, cause: str, severity: Severity, *, technical: bool) -> RuleFace:
    """A rule of nobody's protocol."""
    sla_s, recheck_s = _PATIENCE_S[severity]
    return RuleFace(name, version, title, cause, ROLE, sla_s, recheck_s, technical)


def limit_rules(limits: Sequence[Limit], version: int) -> list[CompiledRule]:
    """A patient's own limits, in order."""
    rules = []
    for limit in limits:
        for spec in compile_limit(limit):
            severity, side = Severity(spec.severity), Side(spec.side).word
            name, title = rule_id(limit.vital, side, severity.name), f"{BY_KEY[limit.vital].name} {side}"
            face = plain_face(name, version, title, CAUSES[limit.vital], severity, technical=False)
            rules.append(CompiledRule(face, spec))
    return rules


def describe_silence(vital: int, window_ns: int) -> str:
    """Worked: ``No interstitial glucose (CGM) for 60 min``, ``No body weight for 48 h``."""
    span = f"{window_ns // MINUTE_NS} min" if window_ns < 2 * HOUR_NS else f"{window_ns // HOUR_NS} h"
    return f"No {spoken(BY_CODE[vital])} for {span}"


def silence_rule(vital: int, version: int) -> CompiledSilence:
    """The rule of a vital that has limits of the patient's own: nothing for longer than its source may be silent."""
    known = BY_CODE[vital]
    window_ns = known.silence_ns(known.mode)
    title = describe_silence(vital, window_ns)
    face = plain_face(f"silence:{known.key}", version, title, "monitoring", Severity.S3, technical=True)
    return CompiledSilence(face._replace(silence=True), vital, window_ns, int(Severity.S3))
