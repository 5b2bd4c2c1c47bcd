"""Where a source sends only aggregates the mean decides; a minimum or maximum alone is at most a review."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.alerts.alert_world import limit
from tests.alerts.bedside import Bedside, urgent
from tests.alerts.test_wrong_clocks import reviews, spo2
from tests.support import SECOND
from vitals.glossary import ControlKind, Flag
from vitals.model import Control
from vitals.records import AlertEvent

WATCH = "watch"


def hour(bed: Bedside, ago_s: float = 3600.0, **statistics: float) -> list[AlertEvent]:
    """Heart rates of an hour that began so long ago, under limits of 40 and 130."""
    if WATCH not in {device.id for device in bed.world.registry.devices()}:
        bed.world.device(WATCH, "omh")
        bed.world.registry.assign(WATCH, bed.patient, from_ns=None, to_ns=None)
        written = [limit(vital="heart_rate", unit="/min", low=40.0, high=130.0, severity="S1")]
        body = {"patient": bed.patient, "version": 2, "reason": "test", "limits": written}
        bed._append(Control(ControlKind.LIMITS, 0, "dr_a", body))
    start = datetime.fromtimestamp((bed.world.clock.now_ns() - int(ago_s * SECOND)) // SECOND, UTC)
    frame = {"time_interval": {"start_date_time": start.isoformat(), "duration": {"value": 1, "unit": "h"}}}
    points: list[dict[str, Any]] = [
        {"heart_rate": {"value": value, "unit": "beats/min"}, "effective_time_frame": frame,
         "descriptive_statistic": name} for name, value in statistics.items()
    ]  # fmt: skip
    bed.world.send(bed.world.message(WATCH, json.dumps(points).encode(), "omh", "heart-rate-2.0"))
    return bed._fold()


def test_the_mean_decides(bed: Bedside) -> None:
    events = hour(bed, minimum=28, average=30, maximum=34)
    (page,) = urgent(events)
    assert [value["value"] for value in page.values] == [30.0]
    assert not reviews(events), "the minimum stands beside its mean"
    bed.wait(1800)
    assert "returned" in [one.kind for one in hour(bed, average=60)]


def test_a_median_is_an_average(bed: Bedside) -> None:
    assert urgent(hour(bed, median=30))


def test_an_extreme_beside_a_normal_mean_is_nothing(bed: Bedside) -> None:
    assert not hour(bed, minimum=38, average=70, maximum=150)


@pytest.mark.parametrize(("name", "value"), [("minimum", 30), ("maximum", 150)])
def test_an_extreme_alone_is_a_review(bed: Bedside, name: str, value: float) -> None:
    events = hour(bed, **{name: value})
    assert not urgent(events)
    (task,) = reviews(events)
    assert "does not page" in task.text
    assert not hour(bed, **{name: 70})


def test_the_age_of_an_average_is_that_of_its_start(bed: Bedside) -> None:
    """The paging age of a heart rate is two hours: of an average over the last three, the end is not what counts."""
    events = hour(bed, ago_s=3 * 3600, average=30)
    assert bed.flags() == Flag.LATE
    assert not urgent(events)
    assert len(reviews(events)) == 1


def test_an_average_is_older_than_a_reading_of_its_time(bed: Bedside) -> None:
    """The value of now is 70: the average of the ten minutes before it ends nothing."""
    assert urgent(spo2(bed, 70))
    bed.world.device("ring", "fitbit")
    bed.world.registry.assign("ring", bed.patient, from_ns=None, to_ns=None)
    minute = datetime.fromtimestamp(bed.world.clock.now_ns() // SECOND - 300, UTC)
    page = {"dateTime": f"{minute:%Y-%m-%d}", "minutes": [{"value": 97, "minute": f"{minute:%Y-%m-%dT%H:%M:%S}Z"}]}
    bed.world.send(bed.world.message("ring", json.dumps(page).encode(), "fitbit", "spo2"))
    assert not bed._fold()
    assert bed.open()
