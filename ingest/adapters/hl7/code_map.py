"""The code map of a sender: its local codes as vital signs of the catalogue, written by the site as a TOML file.

```toml
version = 1

[[codes]]
code = "108"
system = "99MNDRY"
vital = "heart_rate"
unit = "/min"
```

``code`` and ``system`` are components 1 and 3 of OBX-3 (or 4 and 6), as the sender writes them. ``unit`` is that of the
sender's numbers in UCUM; OBX-6 may be empty or in words of the sender's own, but a known unit in it must be the same.
``factor`` times the sender's number is in ``unit``: it must be a factor of the unit table (``vitals.units``), so that a
value is never scaled by a number that somebody typed. ``site`` goes into the context of the reading, with the version
of the map. Codes that have a meaning already, by MDC, MDIL or LOINC, are refused: a map adds meanings and changes none.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ingest.adapters.hl7 import codes
from ingest.adapters.hl7.codes import Coded
from ingest.adapters.hl7.mdc import METRICS, NAMES, Metric
from vitals.catalog import BY_KEY, accepts
from vitals.errors import ConfigError
from vitals.units import UNIT_BY_NAME, source_of_factor

MOST_CODES: Final = 500
_TEXTS: Final = frozenset({"code", "system", "vital", "unit", "site"})
_KNOWN: Final = _TEXTS | {"factor"}
_LONGEST: Final = 64
_VITALS: Final = frozenset(metric.vital for metric in (*METRICS.values(), *codes.LOINC.values()))


class CodeMap(NamedTuple):
    """The local codes of a sender: (code, system in capitals) -> what it measures."""

    version: int = 0
    local: Mapping[tuple[str, str], Coded] = MappingProxyType({})

    def find(self, parts: Sequence[str]) -> Coded | None:
        """What the components of OBX-3 name by this map; None for a code that is not in it.

        A reference name of a vital sign beside an MDC number is left to the allow-list, which tells the contradiction.
        """
        if not self.local:
            return None
        for code, name, system in codes.triples(parts):
            found = self.local.get((code, system))
            if found is not None and not (system == "MDC" and name in NAMES):
                return found
        return None


@lru_cache(maxsize=256)
def parse(text: str) -> CodeMap:
    """The map that a TOML document describes; the empty text is the empty map.

    Raises:
        ConfigError: not TOML, or a member is missing, unknown or wrong; ``setting`` names it, as ``codes.3.unit``.
    """
    if not text:
        return CodeMap()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("code_map", f"no TOML: {error}") from error
    _only(document, frozenset({"version", "codes"}), "code_map")
    version, rows = document.get("version"), document.get("codes")
    if type(version) is not int or version < 1:
        raise ConfigError("version", "expected a whole number from 1 on")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_CODES:
        raise ConfigError("codes", f"expected 1 to {MOST_CODES} tables [[codes]]")
    local: dict[tuple[str, str], Coded] = {}
    for number, row in enumerate(rows, 1):
        place = f"codes.{number}"
        if not isinstance(row, dict):
            raise ConfigError(place, "expected a table")
        key, coded = _row(row, place, version)
        if key in local:
            raise ConfigError(place, "the same code and system as another row")
        local[key] = coded
    return CodeMap(version, MappingProxyType(local))


def _only(given: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{place}.{name}", f"unknown; known are {', '.join(sorted(known))}")


def _row(row: Mapping[str, Any], place: str, version: int) -> tuple[tuple[str, str], Coded]:
    _only(row, _KNOWN, place)
    for name in _TEXTS:
        text = row.get(name, "")
        if not isinstance(text, str) or not text.isascii() or len(text) > _LONGEST or (not text and name != "site"):
            raise ConfigError(f"{place}.{name}", f"expected a text of at most {_LONGEST} ASCII characters")
    code, system = row["code"], row["system"].upper()
    known = codes.observation((code, "", system))
    if known is not None and (known.metric is not None or known.conflict is not None or codes.is_structure(known)):
        raise ConfigError(f"{place}.code", "has a meaning already, which a map cannot change")
    vital = BY_KEY.get(row["vital"])
    if vital is None or vital.code not in _VITALS or vital.values:
        raise ConfigError(f"{place}.vital", "expected the key of a vital sign that monitors measure as a number")
    unit, factor = row["unit"], row.get("factor", 1)
    if not accepts(vital, unit):
        raise ConfigError(f"{place}.unit", f"{vital.key} is not measured in it")
    if type(factor) not in {int, float}:
        raise ConfigError(f"{place}.factor", "expected a number")
    source = source_of_factor(float(factor), UNIT_BY_NAME[unit].ucum)
    if source is None or not accepts(vital, source):
        raise ConfigError(f"{place}.factor", "is none of the unit table: values are converted by its factors alone")
    context = {"code_map": f"version {version}"} | ({"site": row["site"]} if row.get("site") else {})
    metric = Metric(vital.code, 0, MappingProxyType(context))
    return (code, system), Coded(None, "", metric, local=f"{system}:{code}", unit=UNIT_BY_NAME[source].code)
