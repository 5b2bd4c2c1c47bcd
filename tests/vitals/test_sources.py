"""Which kinds of device come too late to page."""

import pytest

from ingest.adapters import BUILT_IN, built_in
from vitals.catalog import BY_KEY
from vitals.sources import DeviceFamily, Unpaged, unpaged

SENSOR, SPOT = frozenset({"glucose_isf"}), frozenset({"weight", "spo2"})


@pytest.mark.parametrize(
    ("family", "found"),
    [
        (DeviceFamily(SENSOR), []),
        (DeviceFamily(SENSOR, polled=True, delay_s=900), []),
        (DeviceFamily(SENSOR, polled=True, delay_s=901), [Unpaged("glucose_isf", 901, 900.0)]),
        (DeviceFamily(SENSOR, delay_s=301), [Unpaged("glucose_isf", 301, 300.0)]),
        (DeviceFamily(SPOT, polled=True, delay_s=3 * 3600), [Unpaged("spo2", 3 * 3600, 7200.0)]),
    ],
    ids=["no delay", "as old as it may be", "polled", "not polled", "one of two"],
)
def test_a_source_cannot_page_where_its_delay_exceeds_the_paging_age(
    family: DeviceFamily, found: list[Unpaged]
) -> None:
    assert unpaged(family) == found


def test_the_paging_age_of_a_polled_source_is_that_of_its_vital_alone_unless_it_is_continuous() -> None:
    assert BY_KEY["weight"].paged_ns(polled=True) == BY_KEY["weight"].paged_ns(polled=False)
    assert BY_KEY["glucose_isf"].paged_ns(polled=True) == 3 * BY_KEY["glucose_isf"].paged_ns(polled=False)


def test_built_in_sources() -> None:
    assert {name for name in BUILT_IN if unpaged(built_in(name).family)} == {"dexcom"}
