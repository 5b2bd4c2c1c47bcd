"""Rules to try, as the control entries that put them in force: limits of a patient, protocols, what is in force."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from alerts.backtest import AUTHOR, RuleSet, Watched
from alerts.rules import compile_limit, parse_limits, rule_id, sides
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control

IN_FORCE: Final = "in force"


def rule_set(name: str, document: object, patients: Sequence[str], at_ns: int) -> RuleSet:
    """A list of limits for every patient, or a protocol that all are enrolled in.

    Raises:
        InvalidRequest: with the path of the first wrong word.
    """
    if isinstance(document, list):
        return limits_set(name, dict.fromkeys(patients, document), at_ns)
    raise InvalidRequest("protocol", "protocols are not read yet: give limits")


def limits_set(name: str, limits: Mapping[str, Sequence[Any]], at_ns: int) -> RuleSet:
    """Limits per patient, as ``patients/{id}/limits`` takes them; raises ``InvalidRequest``."""
    controls, watched, longest_ns = [], [], 0
    for patient, given in limits.items():
        parsed = parse_limits(list(given))
        body = {
            "patient": patient, "version": 1, "reason": AUTHOR,
            "limits": [limit.model_dump(mode="json") for limit in parsed],
        }  # fmt: skip
        controls.append(Control(ControlKind.LIMITS, at_ns, AUTHOR, body))
        for limit in parsed:
            longest_ns = max(longest_ns, *(spec.on_delay_ns for spec in compile_limit(limit)))
            code = BY_KEY[limit.vital].code
            names = [rule_id(limit.vital, side.word, limit.severity) for side in sides(limit)]
            watched += [Watched(patient, rule, (code,)) for rule in names]
    return RuleSet(name, tuple(controls), tuple(watched), longest_delay_ns=longest_ns)
