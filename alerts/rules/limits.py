"""Limits of a patient: validated as a person wrote them, compiled to the kernels' numbers.

A limit is the shape of ``patients/{id}/limits`` in the outside contracts. Each of its sides becomes one slot with a
stable rule id such as ``limit:spo2:low:S1``. Thresholds pass through the same conversion as values, so that a reading
of 3.9 mmol/L is never below a limit of 3.9 mmol/L (clinical.md 1.2).
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic import model_validator as whole

from alerts.rules.arrest import EXTREME_NS, EXTREME_OF, arrest_line
from alerts.rules.spec import Kind, Op, RuleSpec
from vitals.catalog import BY_CODE, BY_KEY, Vital, accepts
from vitals.errors import InvalidRequest
from vitals.glossary import Flag, Mode, Severity
from vitals.times import SECOND_NS
from vitals.units import UNIT_BY_CODE, UNIT_BY_NAME, from_canonical, to_canonical

MAX_LIMITS = 32
"""Limits one patient may have."""
MAX_OFF_DELAY_S = 7 * 86_400.0
_DECIMALS = 9
_LARGEST = 1e9


class Side(IntEnum):
    """Which side of a limit is the bad one."""

    LOW = 0
    HIGH = 1

    @property
    def word(self) -> str:
        """``low`` or ``high``."""
        return self.name.lower()

    @property
    def never(self) -> float:
        """A line that no value of this side is beyond."""
        return -math.inf if self is Side.LOW else math.inf


class Limit(BaseModel):
    """One limit as a person wrote it: ``low``, ``high`` and ``deadband`` in ``unit``, delays in seconds.

    A reading equal to ``low`` or ``high`` is no violation. ``unit`` is normalised to UCUM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    vital: str
    unit: str
    low: float | None = Field(default=None, ge=-_LARGEST, le=_LARGEST)
    high: float | None = Field(default=None, ge=-_LARGEST, le=_LARGEST)
    severity: Literal["S1", "S2", "S3"]
    deadband: float = Field(default=0.0, ge=0.0, le=_LARGEST)
    on_delay_s: float = Field(default=0.0, ge=0.0)
    off_delay_s: float = Field(default=0.0, ge=0.0, le=MAX_OFF_DELAY_S)

    @field_validator("vital")
    @classmethod
    def _known(cls, key: str) -> str:
        if key not in BY_KEY:
            raise ValueError("is no vital sign of the catalogue")
        if BY_KEY[key].panel:
            raise ValueError(f"is a panel: set limits for {', '.join(BY_KEY[key].panel)}")
        return key

    @field_validator("unit")
    @classmethod
    def _measures(cls, unit: str, info: ValidationInfo) -> str:
        key = info.data.get("vital")
        if key is not None and not accepts(BY_KEY[key], unit):
            raise ValueError(f"does not measure {key}")
        known = UNIT_BY_NAME.get(unit)
        return unit if known is None else known.ucum

    @field_validator("high")
    @classmethod
    def _above_low(cls, value: float | None, info: ValidationInfo) -> float | None:
        low = info.data.get("low")
        if value is not None and low is not None and not low < value:
            raise ValueError("must be above low")
        return value

    @field_validator("deadband")
    @classmethod
    def _within_span(cls, value: float, info: ValidationInfo) -> float:
        low, high = info.data.get("low"), info.data.get("high")
        if low is not None and high is not None and value >= high - low:
            raise ValueError("must be smaller than the span between low and high")
        return value

    @field_validator("on_delay_s")
    @classmethod
    def _shorter_than_staleness(cls, value: float, info: ValidationInfo) -> float:
        key = info.data.get("vital")
        if key is not None and value * SECOND_NS >= _staleness_ns(key):
            stale_s = _staleness_ns(key) / SECOND_NS
            raise ValueError(f"a delay longer than staleness ({stale_s:g} s for {key}) would never raise")
        return value

    @whole(mode="after")
    def _one_side(self) -> "Limit":
        if self.low is None and self.high is None:
            raise ValueError("needs low or high")
        return self


_LIMITS = TypeAdapter(list[Limit])


def _staleness_ns(key: str) -> int:
    vital = BY_KEY[key]
    return vital.staleness_ns(vital.mode)


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path or "limits"


def parse_limits(payload: object) -> list[Limit]:
    """The limits of one patient from their JSON form.

    Raises:
        InvalidRequest: with the path of the first wrong word, such as ``[2].low``.
    """
    try:
        limits = _LIMITS.validate_python(payload)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(_path(first["loc"]), problem) from error
    if len(limits) > MAX_LIMITS:
        raise InvalidRequest("limits", f"a patient has at most {MAX_LIMITS} limits")
    seen: set[tuple[str, str, str]] = set()
    for number, limit in enumerate(limits):
        for side in sides(limit):
            name = (limit.vital, side.word, limit.severity)
            if name in seen:
                raise InvalidRequest(f"[{number}].{side.word}", f"there are two of {rule_id(*name)}")
            seen.add(name)
    return limits


def sides(limit: Limit) -> list[Side]:
    """The sides that a limit has, low first."""
    return [side for side, value in ((Side.LOW, limit.low), (Side.HIGH, limit.high)) if value is not None]


def rule_id(vital: str, side: str, severity: str) -> str:
    """Stable name of a slot's rule within a patient: ``limit:spo2:low:S1``."""
    return f"limit:{vital}:{side}:{severity}"


def compile_limit(limit: Limit) -> list[RuleSpec]:
    """One :class:`RuleSpec` per side.

    The deadband is a difference, so it is converted as part of the limit: 100.4 [degF] with 0.6 is left at 99.8 [degF].
    """
    vital = BY_KEY[limit.vital]
    specs = []
    for side in sides(limit):
        written = limit.low if side is Side.LOW else limit.high
        assert written is not None
        # Rounded as a person adds: 3.9 and a deadband of 0.2 is left at 4.1, not at 4.1000000000000005.
        inner = round(written + (limit.deadband if side is Side.LOW else -limit.deadband), _DECIMALS)
        enter, leave = to_canonical([written, inner], limit.unit, vital.unit).tolist()
        arrest = arrest_line(vital.key) if side is Side.LOW and limit.severity == "S1" else side.never
        steady = vital.mode is Mode.CONTINUOUS or limit.on_delay_s > 0
        specs.append(
            RuleSpec(
                kind=Kind.LIMIT, vital=vital.code, side=int(side), severity=int(Severity[limit.severity]),
                unit=UNIT_BY_NAME[limit.unit].code, limit=written, deadband=limit.deadband,
                enter=enter, leave=leave, inclusive=0,
                on_delay_ns=round(limit.on_delay_s * SECOND_NS), on_count=1, apart_ns=0,
                off_delay_ns=round(limit.off_delay_s * SECOND_NS), off_count=1,
                staleness_ns=_staleness_ns(limit.vital), continuous=int(vital.mode is Mode.CONTINUOUS), sticky=0,
                patient_limit=1, median_of=1, op=Op.NONE, window_ns=0, a=0.0, b=0.0, c=0.0, from_min=0, to_min=0,
                extreme=arrest, extreme_of=EXTREME_OF if steady else 1, extreme_ns=EXTREME_NS if steady else 0,
                arrest=arrest, lone=side.never,
            )
        )  # fmt: skip
    return specs


_SHOWN_UNIT: Mapping[str, str] = MappingProxyType(
    {"mm[Hg]": "mmHg", "Cel": "°C", "[degF]": "°F", "[lb_av]": "lb", "[stone_av]": "st", "[in_i]": "in"}
)
_SHOWN_DECIMALS: Mapping[str, int] = MappingProxyType(
    {"mg/dL": 0, "mmol/L": 1, "%": 0, "/min": 0, "mm[Hg]": 0, "ms": 0, "{fraction}": 2, "mol/L": 4, "kg/L": 5}
)
_WORDLESS = frozenset({"{fraction}", "{score}", "{code}"})
_EXTRA_DECIMALS = 3


def _quantity(number: str, unit: str) -> str:
    word = "" if unit in _WORDLESS else _SHOWN_UNIT.get(unit, unit.replace("{", "").replace("}", ""))
    return f"{number} {word}".rstrip()


def written(value: float, unit: str) -> str:
    """A number as a person wrote it, with its UCUM unit as it is shown: ``0.91 kg``."""
    return _quantity(f"{value:g}", unit)


def _rounded(value: float, unit: str, limit: float) -> str:
    """Display rounding (clinical.md 1.2), finer where the coarse number would not show on which side it is."""
    digits = _SHOWN_DECIMALS.get(unit, 1)
    shown = f"{value:.{digits}f}"
    for extra in range(1, _EXTRA_DECIMALS + 1):
        if value == limit or (float(shown) - limit) * (value - limit) > 0:
            break
        shown = f"{value:.{digits + extra}f}"
    return shown


def spoken(vital: Vital) -> str:
    """A vital's name inside of a sentence: ``oxygen saturation``, ``NEWS2 score``."""
    name = vital.name
    return name[0].lower() + name[1:] if name[1].islower() else name


def _word(vital: Vital, code: float) -> str:
    return vital.values[int(code)] if code in range(len(vital.values)) else f"code {code:g}"


def describe_limit(spec: RuleSpec, value: float, flags: int) -> str:
    """A reading against its limit in a nurse's words, in the limit's unit.

    ``value`` is canonical. Worked: ``Interstitial glucose (CGM) 62 mg/dL, limit 70 mg/dL (low)``.
    """
    vital, unit = BY_CODE[spec.vital], UNIT_BY_CODE[spec.unit].ucum
    side = Side(spec.side).word
    line = _quantity(f"{spec.limit:g}", unit)
    if vital.values:
        seen, line = _word(vital, value), _word(vital, spec.limit)
    elif flags & (Flag.BELOW_RANGE | Flag.ABOVE_RANGE):
        seen = f"{'below' if flags & Flag.BELOW_RANGE else 'above'} the sensor's range"
    else:
        seen = _quantity(_rounded(float(from_canonical(value, vital.unit, unit)), unit, spec.limit), unit)
    return f"{vital.name} {seen}, limit {line} ({side})"


def quantity(vital: Vital, value: float) -> str:
    """A canonical value with its unit, as it is shown: ``62 mg/dL``, ``82.3 kg``."""
    if vital.values:
        return _word(vital, value)
    return shown(value, vital.unit)


def shown(value: float, unit: str) -> str:
    """A canonical value with its unit, rounded for display: ``84 %``, ``35.0 °C``."""
    return _quantity(f"{value:.{_SHOWN_DECIMALS.get(unit, 1)}f}", unit)
