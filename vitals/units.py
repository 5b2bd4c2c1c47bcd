"""Units of measurement and vectorised conversion to the catalogue's canonical unit.

Factors are those of ``docs/reference/clinical.md`` 1.2, each defined once. Limits pass through the same function as
values, so 3.9 mmol/L is never below a limit of 3.9 mmol/L. Powers of ten and temperatures are rounded at the ninth
decimal: a device that sends 0.0041 mol/L means 4.1 mmol/L, not 4.1000000000000005, and 102.38 [degF] reach a limit of
39.1 Cel.

Worked: ``to_canonical([10.0], "mmol/L", "mg/dL") == [180.182]``; 98.6 [degF] = 37.0 Cel; 16.0 kPa = 120.01 mm[Hg].
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

MMOL_L_TO_MG_DL = 18.0182
"""The project's one glucose factor (clinical.md 1.2)."""
KPA_TO_MMHG = 7.500616827
LB_TO_KG = 0.45359237
STONE_TO_KG = 6.35029318
INCH_TO_CM = 2.54
FOOT_TO_CM = 30.48
_DECIMALS = 9
# One less: the way back multiplies what the way there rounded.
_BACK_DECIMALS = 8

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit: append-only ``code`` (uint8 on the wire), UCUM symbol, and spellings accepted at the edge."""

    code: int
    ucum: str
    synonyms: tuple[str, ...] = ()


UNITS: tuple[Unit, ...] = (
    Unit(0, "{steps}", ("steps", "1")),
    Unit(1, "/min", ("{beats}/min", "{beat}/min", "{breaths}/min", "bpm", "beats/min", "breaths/min", "count/min")),
    Unit(2, "%", ("percent",)),
    Unit(3, "{fraction}", ("fraction",)),
    Unit(4, "mm[Hg]", ("mmHg", "mmhg")),
    Unit(5, "kPa"),
    Unit(6, "Cel", ("C", "°C", "degC")),
    Unit(7, "[degF]", ("F", "°F", "degF")),
    Unit(8, "K"),
    Unit(9, "mg/dL", ("mg/dl", "MGDL")),
    Unit(10, "mmol/L", ("mmol/l",)),
    Unit(11, "kg/L"),
    Unit(12, "mol/L"),
    Unit(13, "kg"),
    Unit(14, "g"),
    Unit(15, "[lb_av]", ("lb", "lbs")),
    Unit(16, "[stone_av]", ("stone", "st")),
    Unit(17, "cm"),
    Unit(18, "m"),
    Unit(19, "[in_i]", ("in", "inch")),
    Unit(20, "kg/m2"),
    Unit(21, "ms"),
    Unit(22, "s"),
    Unit(23, "min"),
    Unit(24, "h"),
    Unit(25, "L/min"),
    Unit(26, "L/s"),
    Unit(27, "L"),
    Unit(28, "mL"),
    Unit(29, "{code}", ("code",)),
    Unit(30, "{score}", ("score",)),
    Unit(31, "{uses}/d", ("uses/d",)),
    Unit(32, "/s", ("count/s",)),
    Unit(33, "[ft_i]", ("ft",)),
)

UNIT_BY_CODE: Mapping[int, Unit] = MappingProxyType({unit.code: unit for unit in UNITS})
UNIT_BY_NAME: Mapping[str, Unit] = MappingProxyType(
    {name: unit for unit in UNITS for name in (unit.ucum, *unit.synonyms)}
)


def _scaled(factor: float) -> tuple[float, float, bool]:
    return factor, 0.0, False


_POWER = True
_LINEAR: Mapping[tuple[str, str], tuple[float, float, bool]] = MappingProxyType(
    {
        # (from, to): (factor, offset added before the factor, is a power of ten)
        ("{fraction}", "%"): (100.0, 0.0, _POWER),
        ("kPa", "mm[Hg]"): _scaled(KPA_TO_MMHG),
        ("K", "Cel"): (1.0, -273.15, _POWER),
        ("mmol/L", "mg/dL"): _scaled(MMOL_L_TO_MG_DL),
        ("kg/L", "mg/dL"): (100_000.0, 0.0, _POWER),
        ("g", "kg"): (0.001, 0.0, _POWER),
        ("[lb_av]", "kg"): _scaled(LB_TO_KG),
        ("[stone_av]", "kg"): _scaled(STONE_TO_KG),
        ("m", "cm"): (100.0, 0.0, _POWER),
        ("[in_i]", "cm"): _scaled(INCH_TO_CM),
        ("[ft_i]", "cm"): _scaled(FOOT_TO_CM),
        ("s", "ms"): (1000.0, 0.0, _POWER),
        ("L/s", "L/min"): _scaled(60.0),
        ("/s", "/min"): _scaled(60.0),
        ("mL", "L"): (0.001, 0.0, _POWER),
    }
)


def convertible(source: str, target: str) -> bool:
    """Whether values in UCUM ``source`` can be expressed in UCUM ``target``."""
    return source == target or (source, target) in _LINEAR or (source, target) in _SPECIAL


def source_of_factor(factor: float, target: str) -> str | None:
    """The unit whose values times ``factor`` are in UCUM ``target``: ``target`` itself for 1, None for a factor that
    the table does not have.

    Worked: 1000 into ``ms`` is ``s``; 18.0182 into ``mg/dL`` is ``mmol/L``; 10 into ``Cel`` is None.
    """
    if factor == 1.0:
        return target
    for (source, into), (known, offset, _) in _LINEAR.items():
        if (into, known, offset) == (target, factor, 0.0):
            return source
    return None


def _fahrenheit(values: FloatArray) -> FloatArray:
    return np.round((values - 32.0) * 5.0 / 9.0, _DECIMALS)


def _mol_per_litre(values: FloatArray) -> FloatArray:
    return np.round(values * 1000.0, _DECIMALS) * MMOL_L_TO_MG_DL


_SPECIAL: Mapping[tuple[str, str], Callable[[FloatArray], FloatArray]] = MappingProxyType(
    {
        ("[degF]", "Cel"): _fahrenheit,
        ("mol/L", "mg/dL"): _mol_per_litre,
        ("min", "h"): lambda values: values / 60.0,
        ("s", "h"): lambda values: values / 3600.0,
    }
)


def to_canonical(values: npt.ArrayLike, source: str, target: str) -> FloatArray:
    """Convert ``values`` (any shape) from UCUM unit ``source`` to ``target``; float64 out, NaN stays NaN.

    Raises:
        KeyError: the two units do not measure the same thing.
    """
    array = np.asarray(values, dtype=np.float64)
    if source == target:
        return array
    special = _SPECIAL.get((source, target))
    if special is not None:
        return np.asarray(special(array), dtype=np.float64)
    factor, offset, power_of_ten = _LINEAR[(source, target)]
    scaled = (array + offset) * factor
    return np.round(scaled, _DECIMALS) if power_of_ten else scaled


def from_canonical(values: npt.ArrayLike, canonical: str, target: str) -> FloatArray:
    """The inverse of :func:`to_canonical`, rounded at the eighth decimal: what was 3.9 mmol/L is 3.9 mmol/L again.

    Raises:
        KeyError: the two units do not measure the same thing.
    """
    array = np.asarray(values, dtype=np.float64)
    return array if canonical == target else np.round(_inverse(array, canonical, target), _BACK_DECIMALS)


def _inverse(values: FloatArray, canonical: str, target: str) -> FloatArray:
    if (target, canonical) == ("[degF]", "Cel"):
        return values * 9.0 / 5.0 + 32.0
    if (target, canonical) == ("mol/L", "mg/dL"):
        return values / MMOL_L_TO_MG_DL / 1000.0
    if canonical == "h":
        return values * {"min": 60.0, "s": 3600.0}[target]
    factor, offset, _ = _LINEAR[(target, canonical)]
    return values / factor - offset
