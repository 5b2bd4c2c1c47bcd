"""Patients under the shipped protocols, as the control entries that set them up."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from vitals.glossary import ControlKind
from vitals.model import Control


def document(name: str, measures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A shipped protocol as JSON; ``measures`` says how vital signs are measured where not as it says itself."""
    text = (resources.files("alerts") / "protocols" / f"{name}.toml").read_text(encoding="utf-8")
    shipped = tomllib.loads(text)
    return shipped | {"measures": shipped.get("measures", {}) | dict(measures or {})}


def programme(name: str, documents: Sequence[dict[str, Any]], time_ns: int) -> Control:
    """A programme of its first version, in force from then on."""
    body = {"programme": name, "version": 1, "title": name, "reason": "test", "protocols": list(documents),
            "valid_from_ns": None, "review_ns": None}  # fmt: skip
    return Control(ControlKind.PROGRAMME, time_ns, "dr_a", body)


def enrolled(patient: str, programmes: Sequence[str], time_ns: int, **context: Any) -> list[Control]:
    """An adult with the given clinical context, enrolled without overrides."""
    known = {"patient": patient, "version": 1, "reason": "test", "age_band": "adult", "pregnancy": "no", "oxygen": "no",
             "spo2_scale": 1, "known_af": "no", "usual_confusion": False} | context  # fmt: skip
    body = {"patient": patient, "version": 1, "reason": "test", "programmes": list(programmes), "overrides": []}
    return [Control(ControlKind.CONTEXT, time_ns, "dr_a", known), Control(ControlKind.ENROLMENT, time_ns, "dr_a", body)]
