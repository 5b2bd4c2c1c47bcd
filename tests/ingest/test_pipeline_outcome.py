"""``pipeline.run`` answers with an outcome and leaves what it was handed as it was, a reset clock included."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from deploy.wiring import open_journal
from ingest import pipeline
from ingest.adapter import Context
from ingest.adapters import load_adapters
from ingest.pipeline import Outcome
from ingest.placing.wear import WearTable
from tests.ingest.ingest_world import World
from tests.ingest.test_clock_recovery import Shared
from vitals.glossary import Flag
from vitals.model import Message, Provenance


def state(worn: WearTable) -> dict[str, Any]:
    """Everything that a table knows, arrays as lists."""
    known = copy.deepcopy(vars(worn))
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in known.items()}


def test_what_was_learned_of_a_clock_is_in_the_outcome_alone(world: World, tmp_path: Path) -> None:
    shared = Shared(world)
    worn = WearTable(world.registry.devices(), world.registry.assignments())
    folder = tmp_path / "journal"
    folder.mkdir()
    journal = open_journal(folder)
    numbers = iter(range(100))

    def run(*messages: Message) -> Outcome:
        numbered = [structs.replace(message, ordinal=next(numbers)) for message in messages]
        before = state(worn)
        with journal.log.transaction() as tx:
            out = pipeline.run(
                load_adapters()["ble_glucose"], numbered, {"g": Context()}, worn, journal.begin(tx),
                provenance=Provenance(),
            )  # fmt: skip
        assert state(worn) == before
        return out

    first = run(shared.message(10, 1), shared.message(11, 8))
    assert first.heads["g"][1] == 11
    worn.trust(first.heads)
    waits = run(shared.message(14, 24))
    assert [item.reason for item in waits.waiting] == ["clock_reset"]
    # A second run knows nothing of the first unless the caller tells the table.
    assert run(shared.message(15, 25)).clocks["g"].epochs == []
    worn.learn({"g": waits.clocks["g"].clock})
    proved = run(shared.message(16, 25))
    assert proved.clocks["g"].epochs
    assert proved.batches[0].flags.tolist() == [Flag.CLOCK_CORRECTED]
    journal.log.close()
