"""Device adapters: one module per device family, each with one value ``ADAPTER``.

A new device is a module here and a line in ``BUILT_IN``, or a package of its own that registers its ``ADAPTER`` in the
entry-point group ``vitalgate.adapters``.
"""

import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from ingest.adapter import Adapter
from ingest.adapters.ble import battery, blood_pressure, cgm, glucose, heart_rate, plx, scale, thermometer
from ingest.adapters.documents import apple_health, clarity, health_auto_export
from ingest.adapters.fhir import r4
from ingest.adapters.hl7 import v2
from ingest.adapters.hubs import json_readings
from ingest.adapters.omh import data_points
from ingest.adapters.vendors import dexcom, fitbit, ihealth, nightscout, withings
from vitals.catalog import BY_KEY
from vitals.errors import ConfigError

GROUP: Final = "vitalgate.adapters"

BUILT_IN: Final[tuple[Adapter, ...]] = (
    json_readings.ADAPTER,
    glucose.ADAPTER,
    plx.ADAPTER,
    heart_rate.ADAPTER,
    clarity.ADAPTER,
    r4.ADAPTER,
    data_points.ADAPTER,
    dexcom.ADAPTER,
    nightscout.ADAPTER,
    withings.ADAPTER,
    fitbit.ADAPTER,
    ihealth.ADAPTER,
    health_auto_export.ADAPTER,
    v2.ADAPTER,
    blood_pressure.ADAPTER,
    cgm.ADAPTER,
    thermometer.ADAPTER,
    scale.ADAPTER,
    battery.ADAPTER,
    apple_health.ADAPTER,
)

_NAME: Final = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
"""What a topic may carry (docs/reference/mqtt.md)."""
_IMPORT_FAILURES: Final = (
    ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError, RuntimeError, OSError,
)  # fmt: skip


def _problem(adapter: Adapter) -> str | None:
    """What is wrong with an adapter of another package, None when nothing is."""
    if not _NAME.fullmatch(adapter.name):
        return f"name {adapter.name!r} is not fit for a topic: a-z, 0-9 and _, at most 32"
    if not adapter.kinds:
        return "has no kinds"
    unknown = sorted(set(adapter.vitals) - BY_KEY.keys())
    return f"emits vitals that are not in the catalogue: {', '.join(unknown)}" if unknown else None


def _load(entry_point: EntryPoint) -> Adapter:
    setting = f"adapters.{entry_point.name}"
    try:
        adapter: Any = entry_point.load()
    except _IMPORT_FAILURES as error:
        raise ConfigError(setting, f"{entry_point.value} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(adapter, Adapter):
        raise ConfigError(setting, f"{entry_point.value} is a {type(adapter).__name__}, not an ingest.adapter.Adapter")
    problem = _problem(adapter)
    if problem is not None:
        raise ConfigError(setting, f"{entry_point.value} {problem}")
    return adapter


def load_adapters() -> dict[str, Adapter]:
    """Adapter name -> adapter: the built-in ones, then those of installed packages by entry-point name.

    Raises:
        ConfigError: an entry point does not load, is no adapter, or takes a name that is taken.
    """
    adapters = {adapter.name: adapter for adapter in BUILT_IN}
    for entry_point in sorted(entry_points(group=GROUP), key=lambda found: (found.name, found.value)):
        adapter = _load(entry_point)
        if adapter.name in adapters:
            raise ConfigError(
                f"adapters.{entry_point.name}", f"{entry_point.value} takes the name {adapter.name!r}, which is taken"
            )
        adapters[adapter.name] = adapter
    return adapters
