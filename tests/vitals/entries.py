"""Fixed entries, one of every kind: what the golden files of the wire format hold."""

from vitals.glossary import Basis, ControlKind, EventKind, Flag, Statistic
from vitals.model import (
    Control,
    DeviceEvent,
    Entry,
    Heartbeat,
    Message,
    Provenance,
    Tick,
    VitalBatch,
    batch_from_rows,
)

T0 = 1_700_000_000_000_000_000


def readings() -> VitalBatch:
    """Three readings: an instant with context, an interval below the sensor's range, an unassigned one."""
    rows = [
        {
            "device": "meter-1", "patient": "p_abc", "vital": 14, "source_time_ns": T0 - 5, "seq": 7, "time_ns": T0,
            "basis": Basis.DEVICE_ASSUMED_ZONE, "tz_min": -300, "value": 180.182, "reported": 10.0, "unit": 10,
            "flags": int(Flag.CLOCK_CORRECTED), "message": (3 << 16) | 2, "received_ns": T0 + 1,
            "context": {"meal": "fasting", "carbohydrate_g": 12.5},
        },
        {
            "device": "cgm-2", "patient": "p_def", "vital": 15, "source_time_ns": T0, "seq": 8, "time_ns": T0,
            "end_ns": T0 + 300_000_000_000, "value": float("nan"), "reported": float("nan"), "unit": 9,
            "statistic": Statistic.MEAN, "flags": int(Flag.BELOW_RANGE), "message": (3 << 16) | 3,
            "received_ns": T0 + 2,
        },
        {
            "device": "meter-1", "patient": None, "vital": 14, "source_time_ns": -1, "seq": 2**40, "time_ns": 0,
            "basis": Basis.UNKNOWN, "tz_min": 840, "value": 99.0, "unit": 9, "flags": int(Flag.SENSOR_FAULT),
            "received_ns": T0 + 3,
        },
    ]  # fmt: skip
    return batch_from_rows(rows).replace(provenance=Provenance(11, 13, "glucose-meter", 4))


ENTRIES: dict[str, Entry] = {
    "messages": [
        Message("meter-1", "glucose-meter", "2a18", T0, b"\x00\xff\x10payload"),
        Message("m\u00fcnchen", "json", "", T0 + 1, b"", dup=True, resend_of=65_537, ordinal=131_073),
    ],
    "messages-empty": [],
    "heartbeat": Heartbeat(T0),
    "events": [
        DeviceEvent("meter-1", EventKind.BATTERY, T0, "low", 12.5),
        DeviceEvent("cgm-2", EventKind.VALUE_ABSENT, T0 + 1, "warm-up", None, vital=15, message=65_538),
    ],
    "readings": readings(),
    "readings-retracted": batch_from_rows(
        [
            {
                "device": "meter-1",
                "patient": "p_abc",
                "vital": 14,
                "source_time_ns": T0 - 5,
                "seq": 7,
                "time_ns": T0,
                "value": 180.182,
                "reported": 10.0,
                "unit": 10,
                "flags": int(Flag.RETRACTED | Flag.REVISION),
                "message": (3 << 16) | 2,
                "received_ns": T0 + 9,
            },
            {
                "device": "meter-1",
                "patient": "p_def",
                "vital": 14,
                "source_time_ns": T0 - 5,
                "seq": 7,
                "time_ns": T0,
                "value": 180.182,
                "reported": 10.0,
                "unit": 10,
                "flags": int(Flag.LATE | Flag.REVISION),
                "message": (3 << 16) | 2,
                "received_ns": T0 + 1,
                "context": {"assigned_by": "u_nurse"},
            },
        ]
    ),
    "readings-empty": batch_from_rows([]),
    "tick": Tick(T0 + 5),
    "control-assign": Control(
        ControlKind.ASSIGN, T0, "u_nurse", {"item": "3", "device": "meter-1", "patient": "p_abc", "readings": 2}
    ),
    "control": Control(
        ControlKind.LIMITS,
        T0,
        "u_nurse",
        {"patient": "p_abc", "version": 2, "limits": [{"vital": "spo2", "low": 92.0}]},
    ),
}
