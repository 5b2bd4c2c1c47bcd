"""Bent input ends where somebody sees it: a severe live value as a page or a review, any other in a list."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.alerts.bending import SEVERE, SPEAKING, Bent, name_of
from tests.support import SECOND


def year(number: int) -> int:
    return int(datetime(number, 1, 1, 0, 7, tzinfo=UTC).timestamp()) * SECOND


CLOCKS = {
    "right": 0, "+6 min": 360 * SECOND, "+1 h": 3600 * SECOND, "+1 d": 86_400 * SECOND, "1970": year(1970),
    "2000": year(2000), "2161": year(2161),
}  # fmt: skip
"""How a device's clock is bent: a shift below 2 days, else the time that it shows."""


@pytest.fixture
def bent(tmp_path: Path) -> Iterator[Bent]:
    made = Bent(tmp_path)
    yield made
    made.close()


def shown_time(bent: Bent, clock: str) -> int:
    now_ns = bent.world.clock.now_ns() // (60 * SECOND) * 60 * SECOND
    return now_ns + CLOCKS[clock] if not clock.isdecimal() else CLOCKS[clock]


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_severe_value_of_a_bent_clock_is_told_within_a_minute(bent: Bent, clock: str) -> None:
    refused = {}
    for of in SPEAKING:
        try:
            payload = bent.payload(of, SEVERE, shown_time(bent, clock))
        except (OverflowError, ValueError) as error:
            refused[name_of(of)] = error
            continue
        bent.send(of, payload)
    bent.fold()
    bent.minute()
    silent = [name_of(of) for of in SPEAKING if name_of(of) not in refused and not bent.told(of)]
    assert silent == []
    assert refused == {}
    assert all(sum(found.values()) for found in bent.visible().values())
