"""The README's terminal lines, run as they stand against a real pipeline."""

import json
import re
from pathlib import Path

import pytest

from tests.docs import shell

README = shell.ROOT / "README.md"


def _records(output: str) -> list[dict[str, object]]:
    """Every JSON object of the output; answers of curl end without a line end."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while (at := output.find("{", at)) >= 0:
        record, at = decoder.raw_decode(output, at)
        found.append(record)
    return found


@pytest.mark.servers
def test_the_readme_leads_from_nothing_to_an_acknowledged_alert(tmp_path: Path) -> None:
    variables = shell.environment(tmp_path)
    output = shell.run("\n".join(shell.blocks(README)), tmp_path, variables)
    records = _records(output)
    [promised] = re.findall(r'"text":"([^"]+)"', README.read_text(encoding="utf-8"))
    lists = [record["items"] for record in records if "items" in record]
    raised = next(items[0] for items in lists if items and "rule" in items[0])  # type: ignore[index]
    assert (raised["severity"], raised["state"], raised["text"]) == ("S1", "active_unack", promised)
    latest = next(items[0] for items in lists if items and "age_s" in items[0])  # type: ignore[index]
    assert (latest["vital"], latest["value"], latest["device"], latest["flags"]) == ("spo2", 86.0, "oximeter-1", [])
    acknowledged = records[-1]
    assert (acknowledged["id"], acknowledged["state"]) == (raised["id"], "active_ack")
    [ledger] = [record for record in records if "messages" in record]
    assert ledger["messages"] == {"received": 1, "decoded": 1, "duplicate": 0, "quarantined": 0, "in_flight": 0}
    assert [record["http"] for record in records if record.get("event") == "ready"] == [f"http://{variables['HTTP']}"]
    assert "Ada Example" not in "".join(
        path.read_bytes().decode("latin-1") for path in (tmp_path / "ward").iterdir() if path.is_file()
    )


def test_the_first_screen_says_what_it_is_and_the_end_what_it_is_not() -> None:
    text = " ".join(README.read_text(encoding="utf-8").lower().split())
    first = text[: text.index("## ten minutes")]
    for word in ("make demo", "make test", "not a medical device"):
        assert word in first, f"the first screen does not say: {word}"
    # clinical.md 8.4, each statement.
    for word in (
        "not for emergency use", "does not replace professional judgement",
        "thresholds must be approved by the responsible clinician", "data may be delayed, missing or wrong",
        "alerts can fail", "users need a fallback contact path", "no warranty",
    ):  # fmt: skip
        assert word in text[text.index("## what it is not") :], f"the disclaimer does not say: {word}"
