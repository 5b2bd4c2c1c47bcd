"""The JSON Schema of ``json`` readings, from the tables that the adapter reads with (CONTRACTS, "JSON")."""

from collections import defaultdict
from typing import Any, Final

from ingest.adapters.hubs.json_members import DELETED, MEMBERS, TIME_SCHEMA
from ingest.adapters.hubs.json_readings import SEQ_MAX, SEQ_MIN, SERIES
from vitals.catalog import BY_KEY

NAME: Final = "json-reading"
"""Published at ``/schemas/json-reading.json``."""


def _vitals() -> list[dict[str, Any]]:
    """For each vital sign the units that measure it and the values that it has."""
    units: defaultdict[str, list[str]] = defaultdict(list)
    for vital, unit in SERIES:
        units[vital].append(unit)
    return [
        {
            "properties": {
                "vital": {"const": vital},
                "unit": {"enum": names},
                "value": {"enum": list(BY_KEY[vital].values)} if BY_KEY[vital].values else {"type": "number"},
            }
        }
        for vital, names in units.items()
    ]


def json_reading_schema() -> dict[str, Any]:
    """What a payload of kind "" may be, as JSON Schema (2020-12).

    A payload that it accepts is taken as a whole, unless a day does not exist, a zone is unknown, or an ``end`` lies
    before its ``time``. Of a payload that it refuses, the adapter still takes the readings that can be read: times
    and units in other spellings are read, and an optional member that cannot be read is left out.
    """
    reading = {
        "type": "object",
        "required": ["vital", "time"],
        "properties": {
            "vital": {"type": "string", "description": "Key of a vital sign."},
            "value": {"description": "A number, or a code word of the vital sign."},
            "unit": {"type": "string", "description": "UCUM, or a known spelling."},
            "time": {
                "description": "RFC 3339, or epoch milliseconds; without an offset wall time in the device's zone.",
                **TIME_SCHEMA,
            },
            "seq": {
                "description": "Number of the record: tells readings of one time apart.",
                "type": "integer", "minimum": SEQ_MIN, "maximum": SEQ_MAX,
            },
            **{name: dict(member.schema) for name, member in MEMBERS.items()},
        },
        "allOf": [
            {"anyOf": _vitals()},
            {"anyOf": [
                {"required": ["value", "unit"]},
                {"required": ["status"], "properties": {"status": {"const": DELETED}}},
            ]},
        ],
    }  # fmt: skip
    readings = {"type": "array", "items": {"$ref": "#/$defs/reading"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/schemas/{NAME}.json",
        "title": "Readings as JSON",
        "if": {"type": "array"},
        "then": readings,
        "else": {
            "type": "object",
            "if": {"required": ["readings"]},
            "then": {"properties": {"readings": readings}},
            "else": {"$ref": "#/$defs/reading"},
        },
        "$defs": {"reading": reading},
    }
