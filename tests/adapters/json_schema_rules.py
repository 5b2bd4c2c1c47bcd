"""JSON Schema, as much of it as the published schema uses. A keyword that is not known here fails the test."""

import re
from collections.abc import Mapping
from typing import Any, Final

TYPES: Final = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
SAYS_NOTHING: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "then", "else"})


def accepts(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any] | None = None) -> bool:
    """Whether ``value`` fits ``schema``; references are looked up in ``root``."""
    whole = schema if root is None else root
    return all(_holds(keyword, rule, schema, value, whole) for keyword, rule in schema.items())


def _holds(keyword: str, rule: Any, schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]) -> bool:
    if keyword in SAYS_NOTHING:
        return True
    return _COMBINED[keyword](rule, schema, value, root) if keyword in _COMBINED else _simple(keyword, rule, value)


def _simple(keyword: str, rule: Any, value: Any) -> bool:
    is_number, is_text = TYPES["number"](value), isinstance(value, str)
    match keyword:
        case "type":
            return TYPES[rule](value)
        case "const" | "enum":
            return any(type(one) is type(value) and one == value for one in (rule if keyword == "enum" else [rule]))
        case "pattern":
            return not is_text or re.search(rule, value, re.ASCII) is not None
        case "minLength":
            return not is_text or len(value) >= rule
        case "maxLength":
            return not is_text or len(value) <= rule
        case "minimum":
            return not is_number or value >= rule
        case "maximum":
            return not is_number or value <= rule
        case "required":
            return not isinstance(value, dict) or all(name in value for name in rule)
    raise AssertionError(f"unknown keyword {keyword}")


def _reference(rule: str, _schema: Any, value: Any, root: Any) -> bool:
    found = root
    for name in rule.removeprefix("#/").split("/"):
        found = found[name]
    return accepts(found, value, root)


_COMBINED: Final = {
    "$ref": _reference,
    "allOf": lambda rule, _schema, value, root: all(accepts(one, value, root) for one in rule),
    "anyOf": lambda rule, _schema, value, root: any(accepts(one, value, root) for one in rule),
    "if": lambda rule, schema, value, root: accepts(
        schema.get("then" if accepts(rule, value, root) else "else", {}), value, root
    ),
    "properties": lambda rule, _schema, value, root: (
        not isinstance(value, dict)
        or all(accepts(one, value[name], root) for name, one in rule.items() if name in value)
    ),
    "items": lambda rule, _schema, value, root: (
        not isinstance(value, list) or all(accepts(rule, item, root) for item in value)
    ),
}
