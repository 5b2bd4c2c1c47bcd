"""Bent input ends where somebody sees it: a severe live value as a page or a review, any other in a list."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.alerts.bending import CALM, SEVERE, SPEAKING, Bent, name_of
from tests.support import SECOND
from vitals.visibility import ShownIn


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
    for of in SPEAKING:
        bent.send(of, bent.payload(of, SEVERE, shown_time(bent, clock)))
    quiet = silent(bent)
    # An Observation of another year is a record of that year, whoever wrote it: it stands in the history.
    records = [name_of(of) for of in SPEAKING if of.adapter == "fhir" and clock in {"1970", "2000"}]
    assert quiet == records
    history = sum(found[ShownIn.HISTORY] for found in bent.visible().values())
    assert history >= len(records)


def silent(bent: Bent) -> list[str]:
    """Formats whose severe value nobody is told of within a minute."""
    bent.fold()
    bent.minute()
    assert all(sum(found.values()) for found in bent.visible().values()), "a message is in no list"
    return [name_of(of) for of in bent.formats if not bent.told(of)]


def test_another_value_of_the_same_time_is_told(bent: Bent) -> None:
    now_ns = shown_time(bent, "right")
    for of in SPEAKING:
        bent.send(of, bent.payload(of, CALM, now_ns))
    bent.fold()
    assert not [name_of(of) for of in SPEAKING if bent.told(of)]
    bent.world.clock.advance(5)
    for of in SPEAKING:
        bent.send(of, bent.payload(of, SEVERE, now_ns))
    assert silent(bent) == []


def test_a_severe_value_before_another_of_the_same_time_is_told(bent: Bent) -> None:
    now_ns = shown_time(bent, "right")
    for values in (SEVERE, CALM):
        for of in SPEAKING:
            bent.send(of, bent.payload(of, values, now_ns))
    assert silent(bent) == []


def is_text(payload: bytes) -> bool:
    return payload[:1] in {b"{", b"[", b"<"} or payload.startswith((b"MSH", b"Index"))


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\xff\xfe"], ids=["UTF-8", "UTF-16"])
def test_a_byte_order_mark_loses_nothing(bent: Bent, before: bytes) -> None:
    """Each message is read as if there were none, or it is in quarantine with its bytes."""
    now_ns = shown_time(bent, "right")
    payloads = {name_of(of): (of, bent.payload(of, SEVERE, now_ns)) for of in SPEAKING}
    texts = {name: (of, payload) for name, (of, payload) in payloads.items() if is_text(payload)}
    assert len({of.adapter for of, _ in texts.values()}) > 10
    for of, payload in texts.values():
        bent.send(of, before + payload)
    quiet = silent(bent)
    shown = bent.visible()
    assert all(found[ShownIn.QUARANTINE] for found in shown.values() if not told_of(found))
    assert sum(found[ShownIn.QUARANTINE] for found in shown.values()) == len(texts.keys() & set(quiet))


def told_of(found: Counter[ShownIn]) -> int:
    return found[ShownIn.CURRENT] + found[ShownIn.UNASSIGNED] + found[ShownIn.HISTORY]
