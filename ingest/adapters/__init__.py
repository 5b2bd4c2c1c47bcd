"""Device adapters: one module per device family, each with one value ``ADAPTER``.

A new device is a module here and a line in ``BUILT_IN``, or a package of its own that registers its ``ADAPTER`` in the
entry-point group ``vitalgate.adapters``.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter
from vitals.catalog import BY_KEY
from vitals.errors import ConfigError

GROUP: Final = "vitalgate.adapters"

BUILT_IN: Final[Mapping[str, str]] = MappingProxyType({
    "json": "hubs.json_readings",
    "ble_glucose": "ble.glucose",
    "ble_plx": "ble.plx",
    "ble_heart_rate": "ble.heart_rate",
    "clarity": "documents.clarity",
    "fhir": "fhir.r4",
    "omh": "omh.data_points",
    "dexcom": "vendors.dexcom",
    "nightscout": "vendors.nightscout",
    "withings": "vendors.withings",
    "fitbit": "vendors.fitbit",
    "ihealth": "vendors.ihealth",
    "health_auto_export": "documents.health_auto_export",
    "hl7v2": "hl7.v2",
    "ble_blood_pressure": "ble.blood_pressure",
    "ble_cgm": "ble.cgm",
    "ble_thermometer": "ble.thermometer",
    "ble_scale": "ble.scale",
    "ble_battery": "ble.battery",
    "apple_health": "documents.apple_health",
})  # fmt: skip
"""Adapter name -> module of this package. A command loads those that it uses."""

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


def built_in(name: str) -> Adapter:
    """The adapter of this package with that name. Raises ``KeyError`` when there is none."""
    adapter: Adapter = import_module(f"{__name__}.{BUILT_IN[name]}").ADAPTER
    return adapter


def load_adapters() -> dict[str, Adapter]:
    """Adapter name -> adapter: the built-in ones, then those of installed packages by entry-point name.

    Raises:
        ConfigError: an entry point does not load, is no adapter, or takes a name that is taken.
    """
    adapters = {name: built_in(name) for name in BUILT_IN}
    for entry_point in sorted(entry_points(group=GROUP), key=lambda found: (found.name, found.value)):
        adapter = _load(entry_point)
        if adapter.name in adapters:
            raise ConfigError(
                f"adapters.{entry_point.name}", f"{entry_point.value} takes the name {adapter.name!r}, which is taken"
            )
        adapters[adapter.name] = adapter
    return adapters
