"""Protocol documents for tests: small ones that are right, to be made wrong in one word."""

import copy
from typing import Any

from alerts.rules.compile import Adopted, RuleOverride, compile_protocols
from alerts.rules.gates import PatientContext
from alerts.rules.protocol import MonitoringProtocol, parse_protocol, shipped
from alerts.rules.spec import Compiled, CompiledRule, RuleSpec

SHIPPED = {protocol.name: protocol for protocol in shipped()}
ADULT = PatientContext("adult")
LOW = {
    "id": "A1", "type": "limit", "title": "Low saturation", "severity": "S2", "vital": "spo2", "unit": "%",
    "at_or_below": 90,
}  # fmt: skip
WEIGHT = {
    "id": "A2", "type": "trend", "title": "Weight up", "severity": "S3", "vital": "weight", "unit": "kg",
    "measure": "change", "at_or_above": 1,
}  # fmt: skip
MEMBERS: list[dict[str, Any]] = [
    {"type": "limit", "vital": "bp_sys", "unit": "mm[Hg]", "below": 90},
    {"type": "limit", "vital": "symptoms", "unit": "{code}", "at_or_above": 1},
]
BOTH = {"id": "A3", "type": "combination", "title": "Both", "severity": "S1", "within_s": 600, "members": MEMBERS}
FALL = {
    "id": "A4", "type": "forecast", "title": "Soon low", "severity": "S2", "vital": "glucose_isf", "unit": "mmol/L",
    "at_or_below": 3, "ahead_min": 20, "while_below": 5.5, "slope_below": -0.1,
}  # fmt: skip
STUCK = {
    "id": "A5", "type": "technical", "title": "Stuck", "severity": "T", "trouble": "stuck", "vital": "spo2",
    "after_s": 3600,
}  # fmt: skip
SCORE = {"id": "A6", "type": "score", "title": "Score", "severity": "S2", "at_or_above": 5}
SILENT = {"id": "A7", "type": "silence", "title": "Silent", "severity": "T", "vital": "spo2", "after_s": 600}
USUAL = {
    "id": "A8", "type": "deviation", "title": "Unusual", "severity": "S2", "vital": "spo2", "unit": "%",
    "measure": "difference", "at_or_below": -4,
}  # fmt: skip
RATE = {
    "id": "A9", "type": "rate", "title": "Fast", "severity": "S2", "vital": "glucose_isf", "unit": "mmol/L",
    "below": -0.2, "clear": -0.1,
}  # fmt: skip


def doc(*rules: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"name": "test", "title": "Test", "rules": copy.deepcopy(list(rules)), **members}


def parsed(*rules: dict[str, Any], **members: Any) -> MonitoringProtocol:
    return parse_protocol(doc(*rules, **members))


def adopted(*protocols: MonitoringProtocol, version: int = 1, programme: str = "ward") -> tuple[Adopted, ...]:
    return (Adopted(programme, version, protocols),)


def compiled(
    *rules: dict[str, Any], context: PatientContext = ADULT, overrides: tuple[RuleOverride, ...] = (), **members: Any
) -> Compiled:
    return compile_protocols(adopted(parsed(*rules, **members)), context, overrides)


def only(compiled: Compiled) -> CompiledRule:
    (rule,) = compiled.rules
    return rule


def spec_of(rule: dict[str, Any], mode: str = "spot", **changes: Any) -> RuleSpec:
    measures = {rule["vital"]: mode} if "vital" in rule else {}
    return only(compiled({**rule, **changes}, measures=measures)).spec
