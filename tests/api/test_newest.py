"""Which of a vital sign's newest readings is shown as its current value."""

from dashboard_api.newest import Held, Newest, current
from tests.support import SECOND
from vitals.catalog import BY_KEY
from vitals.glossary import Basis, Flag, Statistic
from vitals.model import batch_from_rows

NOW = 1_700_000_000 * SECOND
SPO2 = BY_KEY["spo2"].code


def held(*readings: dict[str, object]) -> Held:
    found: Held = {}
    for one in readings:
        age_s = one.pop("age_s")
        assert isinstance(age_s, int)
        row = {"device": "d", "patient": "p", "vital": SPO2, "time_ns": NOW - age_s * SECOND, "end_ns": -(2**63), **one}
        newest = Newest.of(batch_from_rows([row]), 0, {"value": row["value"]})
        found[newest.vital, newest.trust] = newest
    return found


def shown(held: Held, *alerting: str, age_s: int = 60) -> tuple[object, object, bool]:
    """Value, trusted value beside it, whether the time is certain; the newest value of the alerts is ``age_s`` old."""
    (one,) = current(held, NOW, lambda: dict.fromkeys(alerting, NOW - age_s * SECOND))
    return one.reading["value"], one.trusted and one.trusted["value"], one.timed


CERTAIN = {"value": 97.0, "age_s": 600}
DOUBTED = {"value": 70.0, "age_s": 60, "flags": Flag.CLOCK_WRONG, "basis": Basis.RECEIVED}
MEAN = {"value": 88.0, "age_s": 60, "statistic": Statistic.MEAN}


def test_a_single_value_is_preferred_while_it_is_not_stale() -> None:
    assert shown(held(dict(CERTAIN), dict(MEAN))) == (97.0, None, True)
    assert shown(held(dict(CERTAIN, age_s=13 * 3600), dict(MEAN))) == (88.0, None, True)


def test_trust_decides_inside_the_staleness_window_only() -> None:
    assert shown(held(dict(CERTAIN), dict(DOUBTED))) == (97.0, None, True)
    assert shown(held(dict(CERTAIN, age_s=13 * 3600), dict(DOUBTED))) == (70.0, 97.0, False)


def test_the_value_of_an_open_alert_is_never_hidden() -> None:
    assert shown(held(dict(CERTAIN), dict(DOUBTED)), "spo2") == (70.0, 97.0, False)
    assert shown(held(dict(CERTAIN), dict(MEAN)), "spo2") == (88.0, None, True)
    assert shown(held(dict(CERTAIN), dict(DOUBTED)), "pulse_rate") == (97.0, None, True)
    assert shown(held(dict(CERTAIN, age_s=30), dict(DOUBTED)), "spo2") == (97.0, None, True), "a newer one came"


def test_a_doubted_value_does_not_replace_the_one_of_an_open_alert() -> None:
    severe, benign = {"value": 70.0, "age_s": 300}, dict(DOUBTED, value=97.0)
    assert shown(held(dict(severe), dict(benign)), "spo2", age_s=300) == (70.0, None, True)
    assert shown(held(dict(severe), dict(benign)), "spo2", age_s=3600) == (70.0, None, True)


def test_an_aggregate_is_as_old_as_its_start() -> None:
    mean = dict(MEAN, age_s=3600, end_ns=NOW)
    (one,) = current(held(mean), NOW)
    assert one.measured_ns == NOW - 3600 * SECOND
