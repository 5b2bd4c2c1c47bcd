"""Ready-made devices: one function per product, and which products a patient of a condition takes home."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from simulators.devices import (
    CLARITY,
    GLUCOSE_2A18,
    HEART_RATE_2A37,
    HOME_KIT,
    PLX_2A5E,
    PLX_2A5F,
    Encoder,
    Schedule,
    SimulatedClock,
    SimulatedDevice,
    format_encoder,
)
from simulators.formats import Format, parse_formats
from simulators.patients import Condition, SyntheticPatient

EXACT = SimulatedClock()


def glucometer(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 4 * 3600.0, sync_s: float | None = 12 * 3600.0, resync: bool = True,
) -> SimulatedDevice:  # fmt: skip
    """A meter (``ble_glucose``, 2A18): spot readings kept in memory, sent whole at each sync."""
    schedule = Schedule(first_ns, period_s, period_s * 0.4, sync_s, resync=resync)
    return SimulatedDevice(device, secret, "ble_glucose", "2a18", patient, schedule, GLUCOSE_2A18, clock, seed)


def oximeter(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 1.0,
) -> SimulatedDevice:  # fmt: skip
    """A worn oximeter (``ble_plx``, 2A5F), one value a second, without a time."""
    return SimulatedDevice(
        device, secret, "ble_plx", "2a5f", patient, Schedule(first_ns, period_s), PLX_2A5F, clock, seed
    )


def spot_oximeter(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 6 * 3600.0,
) -> SimulatedDevice:  # fmt: skip
    """A fingertip oximeter (``ble_plx``, 2A5E), a few checks a day with its own wall time."""
    schedule = Schedule(first_ns, period_s, period_s * 0.4)
    return SimulatedDevice(device, secret, "ble_plx", "2a5e", patient, schedule, PLX_2A5E, clock, seed)


def heart_rate_strap(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 1.0,
) -> SimulatedDevice:  # fmt: skip
    """A chest strap (``ble_heart_rate``, 2A37), once a second with an R-R interval."""
    return SimulatedDevice(
        device, secret, "ble_heart_rate", "2a37", patient, Schedule(first_ns, period_s), HEART_RATE_2A37, clock, seed
    )


def cgm(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 300.0, sync_s: float | None = None,
) -> SimulatedDevice:  # fmt: skip
    """A continuous glucose sensor (``clarity``): a row each five minutes, or the rows of ``sync_s`` at once."""
    schedule = Schedule(first_ns, period_s, 0.0, sync_s)
    return SimulatedDevice(device, secret, "clarity", "", patient, schedule, CLARITY, clock, seed)


def json_device(
    device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT, seed: int = 0,
    period_s: float = 3600.0, encoder: Encoder = HOME_KIT,
) -> SimulatedDevice:  # fmt: skip
    """A generic device (``json``): by default pressure, temperature, weight and respiration once an hour."""
    return SimulatedDevice(device, secret, "json", "", patient, Schedule(first_ns, period_s), encoder, clock, seed)


Product = Callable[..., SimulatedDevice]
"""A function like those above: (device, secret, patient, first_ns, *, clock, seed)."""


def speaking(spoken: Format) -> Product:
    """A device that speaks a format and measures as often as such devices do."""

    def product(
        device: str, secret: str, patient: SyntheticPatient, first_ns: int, *, clock: SimulatedClock = EXACT,
        seed: int = 0, period_s: float = spoken.period_s,
    ) -> SimulatedDevice:  # fmt: skip
        schedule, encoder = Schedule(first_ns, period_s), format_encoder(spoken, seed)
        return SimulatedDevice(device, secret, spoken.adapter, spoken.kind, patient, schedule, encoder, clock, seed)

    return product


cuff, scale, thermometer, phone = (
    speaking(spoken)
    for spoken in parse_formats(
        "ble_blood_pressure/2a35,ble_scale/2a9d,ble_thermometer/2a1c,health_auto_export/metrics"
    )
)

KITS: Mapping[Condition, tuple[Product, ...]] = MappingProxyType({
    Condition.HEALTHY: (heart_rate_strap, phone),
    Condition.DIABETES: (cgm, glucometer),
    Condition.HEART_FAILURE: (oximeter, cuff, scale),
    Condition.COPD: (oximeter, spot_oximeter),
    Condition.POST_SURGICAL: (heart_rate_strap, thermometer, json_device),
})  # fmt: skip
"""What a patient of each condition takes home."""
