"""Explanations of alerts: the rule in words, the values, the readings around that time, and the history."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from dashboard_api.dependencies import RulebookView
from dashboard_api.shapes import Json, flag_words, values_json, window_json
from vitals.catalog import BY_KEY, Vital, accepts
from vitals.glossary import FLAG_MEANINGS, INTERRUPTING, AlertStep, Flag
from vitals.ports import AlertReader, Store
from vitals.records import Alert, AlertEvent, Window
from vitals.times import DAY_NS, SECOND_NS, rfc3339
from vitals.units import to_canonical

AROUND_NS: Final = 15 * 60 * SECOND_NS
"""The signal of a continuous vital sign: so long before the raise and after it."""
FEWEST: Final = 3
"""Readings in that time before the raise that make a vital sign a continuous one."""
SPOTS: Final = 10
"""Readings of a spot-measured one, before the raise and after it."""
_COLUMNS: Final = ("time_ns", "value", "minimum", "maximum", "count", "flags", "device", "seq", "basis")
_REACH_NS: Final = tuple(days * DAY_NS for days in (1, 7, 31, 366))
_MEANINGS: Final = {(flag.name or "").lower(): meaning for flag, meaning in FLAG_MEANINGS.items()}


def explanation(alert: Alert, book: AlertReader, rulebook: RulebookView, store: Store | None) -> Json:
    """Everything that a person asks of an alert; ``signal`` is None without a store or a vital sign."""
    events = book.events(alert.id)
    rule = rulebook.rule(alert)
    return {
        "text": alert.text,
        "rule": {name: rule[name] for name in ("id", "title", "words", "version", "source")},
        "limit": alert.limit,
        "values": _values(alert),
        "signal": None if store is None else _signal(alert, store),
        "resolves": alert.resolves or None,
        "advice": rule.get("advice") or None,
        "incident": _incident(alert, book),
        "ladder": {"level": alert.level, "role": alert.role or None, "due": rfc3339(alert.due_ns)},
        "history": [_told(event) for event in events],
    }


def _values(alert: Alert) -> list[Json]:
    """Each reading that raised the alert, with its quality."""
    shown = values_json(alert.values)
    flags = [_words(one.get("flags")) for one in alert.values]
    return [
        one | {"flags": words, "quality": [_MEANINGS.get(word, word) for word in words]}
        for one, words in zip(shown, flags, strict=True)
    ]


def _words(flags: Any) -> Sequence[str]:
    """Flags are words already, or the bits of :class:`Flag`."""
    return flag_words(int(flags)) if isinstance(flags, int | Flag) else list(flags or ())


def _incident(alert: Alert, book: AlertReader) -> Json:
    members = book.incident(alert.incident) if alert.incident else [alert]
    return {
        "id": alert.incident or None,
        "members": [
            {"id": one.id, "rule": one.rule, "severity": one.severity.name, "state": one.state, "text": one.text,
             "page": one.page, "raised": rfc3339(one.raised_ns)}
            for one in members
        ],
    }  # fmt: skip


def _told(event: AlertEvent) -> Json:
    """One event in words: ``acknowledged by nurse_b: called her``; ``escalated, asks backup``."""
    words = event.kind.replace("_", " ")
    if event.author:
        words += f" by {event.author}"
    if event.page and event.role and event.kind in INTERRUPTING:
        words += f", asks {event.role.replace('_', ' ')}"
    said = dict.fromkeys(part for part in (event.text, event.note) if part and part != event.kind)
    meaning = AlertStep(event.kind).meaning if event.kind in set(AlertStep) else ""
    told = {"kind": event.kind, "words": ": ".join([words, *said]), "meaning": meaning}
    return {"at": rfc3339(event.at_ns)} | told


def _signal(alert: Alert, store: Store) -> Json | None:
    """The readings around the raise: 15 minutes of a continuous vital sign, else the last and next ones."""
    measured = next((one for one in alert.values if one.get("vital") in BY_KEY), None)
    if measured is None or not alert.patient:
        return None
    vital = BY_KEY[measured["vital"]]
    raised_ns = int(measured.get("time_ns") or alert.raised_ns)

    def read(start_ns: int, end_ns: int) -> Window:
        return store.window(alert.patient, vital.code, start_ns, end_ns)

    around = read(raised_ns - AROUND_NS, raised_ns + AROUND_NS + 1)
    continuous = int(np.searchsorted(around.time_ns, raised_ns, side="right")) >= FEWEST
    window = around if continuous else _spots(read, raised_ns)
    return window_json(vital, window, None, ()) | {
        "mode": "continuous" if continuous else "spot",
        "raised": rfc3339(raised_ns),
        "limit": _line(alert, vital),
    }


def _spots(read: Callable[[int, int], Window], raised_ns: int) -> Window:
    """The last readings up to the raise, and the next ones."""
    for reach_ns in _REACH_NS:
        window = read(raised_ns - reach_ns, raised_ns + reach_ns)
        split = int(np.searchsorted(window.time_ns, raised_ns, side="right"))
        if split >= SPOTS:
            break
    kept = slice(max(0, split - SPOTS), split + SPOTS)
    columns = {name: getattr(window, name)[kept] for name in _COLUMNS}
    return Window(window.resolution, **columns)


def _line(alert: Alert, vital: Vital) -> float | None:
    """The limit on the axis of the signal; None where the rule compares something else, such as a slope."""
    value, unit = alert.limit.get("value"), alert.limit.get("unit", "")
    if alert.limit.get("vital") != vital.key or value is None or not accepts(vital, unit):
        return None
    return float(to_canonical(value, unit, vital.unit))
