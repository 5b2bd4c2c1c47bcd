"""``omh`` against the published schemas themselves: what they allow is read, what they forbid is not."""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.reading.timestamps import parse_rfc3339
from tests.adapters.decoding import decode

FIXTURES = Path(__file__).parents[1] / "fixtures" / "omh"
PUBLISHED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text())["documents"]
TYPES: dict[str, type | tuple[type, ...]] = {"object": dict, "string": str, "number": (int, float)}
KEYWORDS = {"$ref", "type", "enum", "required", "properties", "allOf", "oneOf", "pattern", "format"}
ABOUT = {"$schema", "$id", "description", "references", "definitions", "deprecation"}


@cache
def schema_named(address: str) -> tuple[str, dict[str, Any]]:
    """A schema by its address; those of IEEE 1752.1 by the Open mHealth one of the same name, as upstream allows."""
    name = re.sub(r"-1\.0\.json$", "-1.x.json", address.rpartition("/")[2]) if "ieee" in address else address
    loaded: dict[str, Any] = json.loads((FIXTURES / "schemas" / name).read_text())
    return name, loaded


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether ``value`` is what ``schema``, a part of ``root``, allows: the keywords that the published ones use."""
    assert schema.keys() <= KEYWORDS | ABOUT
    if "$ref" in schema:
        address = schema["$ref"]
        if address.startswith("#/definitions/"):
            return is_valid(value, root["definitions"][address.rpartition("/")[2]], root)
        _, other = schema_named(address)
        return is_valid(value, other, other)
    if "type" in schema and (isinstance(value, bool) or not isinstance(value, TYPES[schema["type"]])):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, str) and not is_text(value, schema):
        return False
    if isinstance(value, dict):
        if not value.keys() >= set(schema.get("required", ())):
            return False
        inner = schema.get("properties", {})
        if not all(is_valid(value[name], inner[name], root) for name in value.keys() & inner.keys()):
            return False
    chosen = [is_valid(value, option, root) for option in schema.get("oneOf", ())]
    return all(is_valid(value, part, root) for part in schema.get("allOf", ())) and (not chosen or sum(chosen) == 1)


def is_text(value: str, schema: dict[str, Any]) -> bool:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if schema.get("format") == "date-time":
        try:
            parse_rfc3339(value)
        except ValueError:
            return False
    return True


def is_read(document: Any, kind: str) -> bool:
    decoded = decode("omh", json.dumps(document).encode(), kind)
    assert bool(decoded.rejects) != bool(len(decoded.batch) or decoded.events)
    return not decoded.rejects


def kind_of(name: str) -> str:
    return "-".join(name.split("/")[:2])


def document_of(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_schemas_allow_the_published_documents(name: str) -> None:
    schema = schema_named(f"{kind_of(name)}.json")[1]
    assert is_valid(document_of(name), schema, schema)
    assert is_read(document_of(name), kind_of(name))


def words(schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """The words that a schema of a string allows."""
    if "$ref" in schema:
        address = schema["$ref"]
        if address.startswith("#"):
            return words(root["definitions"][address.rpartition("/")[2]], root)
        _, other = schema_named(address)
        return words(other, other)
    return schema.get("enum", []) or [word for part in schema.get("allOf", ()) for word in words(part, root)]


@pytest.mark.parametrize("kind", sorted({kind_of(name) for name in PUBLISHED}))
def test_every_word_that_a_schema_names_is_read_and_others_are_not(kind: str) -> None:
    schema = schema_named(f"{kind}.json")[1]
    (name, *_) = (name for name in PUBLISHED if kind_of(name) == kind)
    document = document_of(name)
    named = 0
    for member, part in schema["properties"].items():
        allowed = words(part, schema) if isinstance(document.get(member, ""), str) else []
        for word in allowed:
            assert is_read({**document, member: word}, kind), (member, word)
        if allowed:
            named += 1
            decides = member in DECIDING
            assert is_read({**document, member: "no such word"}, kind) != decides, member
    assert named, "every schema knows at least the statistic"


DECIDING = {"descriptive_statistic", "specimen_source", "blood_specimen_type"}
"""Words without which a value means something else; other words only add to it and are left out when they are none."""


LEAVES = st.sampled_from(
    [None, True, 7, -1.5, "x", "kg", "mg/dL", "mmol/L", "F", "sec", "s", "%", "average", "mean", "fasting", "sitting",
     "left wrist", "oral", "otic", "night", "2024-03-10", "2024-13-10", "2024-03-10T07:30:00Z", "2024-03-10T07:30:00",
     {}, [], {"value": 1, "unit": "h"}, {"value": "1", "unit": "h"}]
)  # fmt: skip
TIMES = st.fixed_dictionaries(
    {},
    optional={
        "start_date_time": st.sampled_from(["2024-03-10T07:30:00Z", 7]),
        "end_date_time": st.sampled_from(["2024-03-10T08:30:00Z", "08:30"]),
        "duration": st.sampled_from([{"value": 1, "unit": "h"}, {"value": 1, "unit": "hour"}, {"value": 1}]),
        "date": st.sampled_from(["2024-03-10", "10 March"]),
        "part_of_day": st.sampled_from(["night", "noon"]),
    },
)
MEMBERS = st.sampled_from(
    ["effective_time_frame", "descriptive_statistic", "specimen_source", "blood_specimen_type", "body_posture",
     "position_during_measurement", "measurement_location", "temporal_relationship_to_sleep", "user_notes", "extra",
     "temporal_relationship_to_meal", "temporal_relationship_to_physical_activity", "supplemental_oxygen_flow_rate"]
)  # fmt: skip


@st.composite
def nearly(draw: st.DrawFn) -> tuple[str, Any]:
    """(kind, document): a published document, changed here and there."""
    name = draw(st.sampled_from(sorted(PUBLISHED)))
    document = copy.deepcopy(document_of(name))
    for _ in range(draw(st.integers(1, 2))):
        match draw(st.integers(0, 4)):
            case 0:
                document[draw(MEMBERS)] = draw(LEAVES)
            case 1:
                document.pop(draw(st.sampled_from(sorted(document))), None)
            case 2:
                document["effective_time_frame"] = {"time_interval": draw(TIMES)}
            case 3:
                document["effective_time_frame"] = draw(
                    st.fixed_dictionaries({}, optional={"date_time": LEAVES, "time_interval": TIMES})
                )
            case _:
                inner = document[draw(st.sampled_from(sorted(document)))] if document else None
                if isinstance(inner, dict) and inner:
                    inner[draw(st.sampled_from(sorted(inner)))] = draw(LEAVES)
        if not document:
            break
    return kind_of(name), document


def is_stricter(document: dict[str, Any], kind: str) -> bool:
    """Whether device-formats.md 3.2 forbids what the schemas, with the looser time frame, let pass."""
    frame = document.get("effective_time_frame")
    if not isinstance(frame, dict):
        return False
    interval = frame.get("time_interval")
    if "date_time" in frame and ("time_interval" in frame or kind.startswith("sleep-duration")):
        return True
    if not isinstance(interval, dict):
        return False
    is_day = {"date", "part_of_day"} <= interval.keys()
    has_times = interval.keys() & {"start_date_time", "end_date_time", "duration"}
    is_ieee = kind in {"blood-glucose-4.0", "blood-pressure-4.0", "body-temperature-4.0", "body-weight-3.0"}
    return len(has_times) == 3 or (is_day and (is_ieee or bool(has_times)))


WORDS_BESIDE = {
    "body_posture", "position_during_measurement", "measurement_location", "temporal_relationship_to_sleep",
    "user_notes", "temporal_relationship_to_meal", "temporal_relationship_to_physical_activity",
}  # fmt: skip
SPELT = {"kg", "mg/dL", "mmol/L", "F", "sec", "s", "%"}


@settings(max_examples=1_000)
@given(nearly())
def test_what_the_schemas_forbid_is_refused_and_what_they_allow_is_read(drawn: tuple[str, Any]) -> None:
    kind, document = drawn
    schema = schema_named(f"{kind}.json")[1]
    beside = {name for name in document if name in WORDS_BESIDE}
    # The schemas know one spelling of a unit, the adapter many.
    if any(isinstance(one, dict) and str(one.get("unit")) in SPELT for one in document.values()):
        return
    sent, document = document, {name: value for name, value in document.items() if name not in beside}
    assert is_read(sent, kind) == is_read(document, kind), "what only adds to a value never costs it"
    allowed = is_valid(document, schema, schema) and not is_stricter(document, kind)
    assert is_read(document, kind) == allowed, (kind, document)
