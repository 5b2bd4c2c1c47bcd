"""What people read of rules: protocols in words, what watches a patient now, and the rule behind an alert."""

from typing import Any

from vitals.errors import InvalidRequest, NotFound
from vitals.ports import Alert, Patient


class Rulebook:
    def __init__(self, book: Any, clock: Any) -> None:
        self._book, self._clock = book, clock

    def shipped(self) -> list[dict[str, Any]]:
        return []

    def protocol(self, name: str) -> dict[str, Any]:
        raise NotFound("protocol", name)

    def read(self, document: object) -> dict[str, Any]:
        if not isinstance(document, dict) or "name" not in document:
            raise InvalidRequest("name", "Field required")
        return {"name": document["name"], "title": document.get("title", ""), "rules": [], "document": document}

    def diff(self, before: Any, after: Any) -> list[str]:
        return [] if before == after else ["changed"]

    def watching(self, patient: Patient) -> dict[str, Any]:
        return {"rules": [], "gated": []}

    def rule(self, alert: Alert) -> dict[str, Any]:
        return {
            "id": alert.rule,
            "title": alert.rule,
            "words": alert.text,
            "version": alert.rule_version,
            "source": "x",
        }
