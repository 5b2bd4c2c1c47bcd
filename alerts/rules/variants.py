"""One rule on several vital signs: itself, and one for each vital sign of ``also_on``."""

from collections.abc import Iterator
from typing import Any

from alerts.rules.coverage import out_of_place
from alerts.rules.gates import PatientContext
from alerts.rules.spec import RuleFace
from alerts.rules.types import CombinationRule
from vitals.catalog import BY_KEY


def variants(rule: Any, face: RuleFace, context: PatientContext) -> Iterator[tuple[Any, RuleFace]]:
    """The variants that can judge this patient, each with its face: ``rhythm:R1``, ``rhythm:R1@pulse_rate``."""
    return ((one, named) for one, named in _every(rule, face) if out_of_place(one, context) is None)


def _every(rule: Any, face: RuleFace) -> Iterator[tuple[Any, RuleFace]]:
    yield rule, face
    parts = rule.members if isinstance(rule, CombinationRule) else (rule,)
    for number, part in enumerate(parts):
        for key in getattr(part, "also_on", ()):
            other = part.model_copy(update={"vital": key})
            named = face._replace(name=f"{face.name}@{key}", title=f"{face.title} ({BY_KEY[key].name})")
            if isinstance(rule, CombinationRule):
                members = (*rule.members[:number], other, *rule.members[number + 1 :])
                yield rule.model_copy(update={"members": members}), named
            else:
                yield other, named
