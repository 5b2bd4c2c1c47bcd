"""Readings for the store's contract: written and looked at in one line."""

from typing import Any

from vitals.catalog import BY_KEY
from vitals.model import batch_from_rows
from vitals.ports import Store

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 19_700 * DAY
HR = BY_KEY["heart_rate"].code
SPO2 = BY_KEY["spo2"].code
ALL_TIME = (-(10**18), 4 * 10**18)


def reading(time_ns: int = T0, value: float = 70.0, **columns: Any) -> dict[str, Any]:
    return {"device": "d1", "patient": "p_1", "vital": HR, "time_ns": time_ns, "value": value, **columns}


def put(store: Store, *rows: dict[str, Any]) -> None:
    """One write of these readings, behind what is there."""
    position = store.position()
    store.write([batch_from_rows(rows)], expected=position, position=position + 1)


def values(store: Store, patient: str = "p_1", vital: int = HR, resolution: str = "raw") -> list[float]:
    return store.window(patient, vital, *ALL_TIME, resolution=resolution).value.tolist()
