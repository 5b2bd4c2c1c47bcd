"""Tables of the pages about rules and protocols, from the models, the defaults and the shipped files."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from alerts.rules.compile import RECHECK_S, ROLES, SLA_S
from alerts.rules.coverage import OnlyWhere
from alerts.rules.gates import Gate, said
from alerts.rules.protocol import MonitoringProtocol, ScoreSettings, shipped
from alerts.rules.syntax import APART_S, CLEAR_S, SUPPRESSORS, Compared, Continuous, Often, Sized, Spot
from alerts.rules.types import CAUSES, RULE_TYPES, Owned, Rule
from alerts.rules.words import rule_words, span
from tests.docs.tables import code, table
from vitals.catalog import BY_KEY
from vitals.context import CONTEXT, NEVER_SET
from vitals.glossary import Mode


def rule_types_block() -> str:
    """Every type of rule with what it says, and its own members."""
    parts = []
    for word, kind in RULE_TYPES.items():
        shared = Sized if issubclass(kind, Sized) else Compared if issubclass(kind, Compared) else Owned
        known = {*Owned.model_fields, *shared.model_fields, "type"}
        own = {key: item for key, item in kind.model_fields.items() if key not in known}
        also = {Sized: " Has a comparison.", Compared: " Has a comparator, and where it ends."}.get(shared, "")
        parts += [f"### `{word}`", str(kind.__doc__).strip() + also, *([_members(own)] if own else [])]
    return "\n\n".join(parts)


def comparison_block() -> str:
    """What conditions on a vital sign share."""
    return _members(Sized.model_fields)


def common_members_block() -> str:
    """What every rule has."""
    return _members(Owned.model_fields)


def persistence_block() -> str:
    """The two tables of persistence, and the gates."""
    parts = []
    for name, part in (("continuous", Continuous), ("often", Often), ("spot", Spot)):
        parts += [f"### `{name}`", str(part.__doc__).strip(), _members(part.model_fields)]
    return "\n\n".join(parts)


def gates_block() -> str:
    """What a gate can ask."""
    rows = [
        (code(key), item.description, ", ".join(code(_shown(value)) for value in _values(item)), code(NEVER_SET[key]))
        for key, item in Gate.model_fields.items()
    ]
    return table(("member", "asks about", "values", "while nobody has recorded it"), rows)


def context_block() -> str:
    """Every member of the clinical context, and what it does."""
    rows = [
        (code(one.key), one.asks,
         f"{one.span[0]} to {one.span[1]}" if one.span else ", ".join(code(_shown(value)) for value in one.values),
         code(_shown(one.unset)), one.effect)
        for one in CONTEXT
    ]  # fmt: skip
    return table(("member", "says", "values", "while nobody has recorded it", "effect"), rows)


def document_block() -> str:
    """Members of the document itself."""
    scores = {f"score.{key}": item for key, item in ScoreSettings.model_fields.items()}
    return _members(
        {**{key: item for key, item in MonitoringProtocol.model_fields.items() if key != "score"}, **scores}
    )


def suppressors_block() -> str:
    """Delays and hysteresis where a rule does not say."""
    rows = [
        (code(key), span(one.for_s) if one.for_s else "", f"{one.deadband:g} {BY_KEY[key].unit}")
        for key, one in SUPPRESSORS.items()
    ]
    text = (
        f"Continuous: over when values were back for {CLEAR_S:g} s. Spot: 2 readings at least {APART_S:g} s apart "
        "raise, and 2 end; of vital signs that are not in the table one reading raises."
    )
    return f"{text}\n\n{table(('vital', 'continuous: raised after', 'deadband'), rows)}"


def owners_block() -> str:
    """Who owns an alert and how long it may wait, where a rule does not say."""
    rows = [(code(word), ROLES[word], span(SLA_S[word]), span(RECHECK_S[word])) for word in ROLES]
    return table(("severity", "role", "may wait", "new measurement after acknowledging"), rows)


def causes_block() -> str:
    """Which incident the alerts about a vital sign join."""
    found: dict[str, list[str]] = {}
    for key, cause in CAUSES.items():
        found.setdefault(cause, []).append(code(key))
    return table(("incident", "vital signs"), [(code(cause), ", ".join(keys)) for cause, keys in found.items()])


def protocols_block() -> str:
    """Every shipped protocol with its rules in words."""
    parts = []
    for protocol in shipped():
        parts += [f"### {protocol.title}", f"`{protocol.name}`, from {protocol.source}. {protocol.advice}".strip()]
        parts.append(table(("rule", "severity", "says", "in words"), map(_rule_row, _told(protocol))))
        if protocol.refuses:
            parts.append(table(("refused where", "why"), [(_gate(one.when), one.reason) for one in protocol.refuses]))
        if protocol.only_where:
            rows = [(f"{code(one.vital)} {one.side}", _where(one), one.reason) for one in protocol.only_where]
            parts.append(table(("watched on this side", "only", "why"), rows))
        if protocol.left_out:
            parts.append(table(("left out", "why"), [(code(one.id), one.reason) for one in protocol.left_out]))
    return "\n\n".join(parts)


def _gate(gate: Gate) -> str:
    return " and ".join(said(key, value) for key, value in gate.asked())


def _where(one: OnlyWhere) -> str:
    words = [f"where {_gate(one.requires)}" if one.requires.asked() else "",
             f"unless {_gate(one.unless)}" if one.unless.asked() else ""]  # fmt: skip
    return " ".join(filter(None, words))


def _told(protocol: MonitoringProtocol) -> Iterable[tuple[Rule, str]]:
    for rule in protocol.rules:
        words = rule_words(rule, protocol.measures)
        other = rule_words(rule, dict.fromkeys(BY_KEY, Mode.CONTINUOUS.value))
        said = '"continuous"' in rule.model_dump_json(exclude_defaults=True)
        yield (
            rule,
            words if other == words or not said else f"{words} Measured continuously: {other[0].lower()}{other[1:]}",
        )


def _rule_row(told: tuple[Rule, str]) -> tuple[str, str, str, str]:
    rule, words = told
    return code(rule.id), rule.severity, rule.title, words


def _members(fields: Mapping[str, FieldInfo]) -> str:
    rows = []
    for key, item in fields.items():
        assert item.description, f"{key} has no description"
        rows.append((code(key), item.description, _default(item)))
    return table(("member", "meaning", "default"), rows)


def _default(item: FieldInfo) -> str:
    if item.default is PydanticUndefined:
        return "required"
    if item.default is None or isinstance(item.default, BaseModel | dict) or item.default in {"", ()}:
        return ""
    return code(", ".join(item.default) if isinstance(item.default, tuple) else _shown(item.default))


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(item: FieldInfo) -> list[Any]:
    words = [part for part in get_args(item.annotation) if part is not type(None)]
    return list(get_args(words[0]))
