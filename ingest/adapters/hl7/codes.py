"""What OBX-3 and OBX-6 mean: MDC numbers, names and LOINC codes to vitals and units.

Sources: device-formats.md 6.3 and 6.4, clinical.md 1.1, interop.md 2.2. A code is its 32-bit number, its 16-bit term,
``partition::term``, its reference name, or in the system MDIL of Philips monitors partition and term in hexadecimal
(``0002-4bb8``); the first triple or the alternate may carry it. A triple of any other system is not read: its number
may be that of an MDC code by chance.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapters.hl7.mdc import METRICS, NAMES, Agreement, Metric, agreed
from ingest.adapters.reading.observation_codes import LOINC_ALSO
from ingest.adapters.reading.units import MDC_UNIT_NAMES, MDC_UNITS, unit_of
from vitals.catalog import BY_KEY, VITALS

_RHYTHM: Final = BY_KEY["ecg_rhythm"]
PANELS: Final = frozenset({vital.mdc for vital in VITALS if vital.panel and vital.mdc is not None})
LOINC: Final[Mapping[str, Metric]] = MappingProxyType(
    # A code that several vitals share means the first, the plain one: 8867-4 is a heart rate.
    {
        code: Metric(BY_KEY[also.vital].code, 0, also.context)
        for code, also in LOINC_ALSO.items()
        if not BY_KEY[also.vital].panel
    }
    | {code: Metric(vital.code) for vital in reversed(VITALS) for code in vital.loinc if not vital.panel}
)
PANEL_LOINC: Final = frozenset({code for vital in VITALS if vital.panel for code in vital.loinc})

DISTANCE: Final = 8454247
"""Steps when it is in steps; any other distance is no vital (clinical.md 1.1)."""
ABSOLUTE_TIME: Final = 67975
"""The device's clock, beside the hub's in OBX-14."""
MODALITY: Final = 68193
NO_TIME_SYNC: Final = 532224
PROFILES: Final[Mapping[int, str]] = MappingProxyType(
    {
        528388: "oximeter",
        528391: "blood_pressure",
        528392: "thermometer",
        528397: "respiration",
        528399: "weight_scale",
        528401: "glucose_meter",
        528404: "body_composition",
        528409: "cgm",
    }
)
MODALITIES: Final[Mapping[int, str]] = MappingProxyType({150580: "fast", 150584: "slow", 150588: "spot"})
STATUS_CODES: Final = frozenset({150604, 8417752, 8418060, *range(68164, 68168), *range(68481, 68486)})
"""Status words of devices, and the facets of alerts (interop.md 2.3)."""
ALERT_WORDS: Final = frozenset(
    {
        "tpoint",
        "start",
        "continue",
        "end",
        "update",
        "escalate",
        "de-escalate",
        "reset",
        "inactive",
        "active",
        "latched",
        "enabled",
        "audio-paused",
        "audio-off",
        "alarm-paused",
        "alarm-off",
        "alert-acknowledged",
        "PN",
        "PL",
        "PM",
        "PH",
        "SP",
        "ST",
        "SA",
    }
)
_PARTITIONED: Final = re.compile(r"(\d{1,3})::(\d{1,5})", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,10}", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"([0-9A-Fa-f]{4})-([0-9A-Fa-f]{4})", re.ASCII)
_LOINC_FORM: Final = re.compile(r"\d{1,7}-\d", re.ASCII)
_LOINC_SYSTEMS: Final = frozenset({"LN", "LNC", "LOINC", ""})
_MDC_SYSTEMS: Final = frozenset({"MDC", ""})
_HEXADECIMAL_SYSTEM: Final = "MDIL"
_TERMS: Final[Mapping[int, int]] = MappingProxyType(
    {number & 0xFFFF: number for number in (*PROFILES, *METRICS, *PANELS)}
)
_STRUCTURE: Final = frozenset({*PROFILES, *PANELS, *STATUS_CODES, *MODALITIES, ABSOLUTE_TIME, MODALITY})
_UNIT_PARTITION: Final = 4 << 16
_SYSTEM_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,19}", re.ASCII)
# Capitals and digits; anything else may be a person's name or number.
_CODE_FORM: Final = re.compile(r"[A-Z0-9][A-Z0-9_.:/%]{0,31}", re.ASCII)
_REFERENCE_FORM: Final = re.compile(r"MDC_[A-Z0-9_]{1,60}", re.ASCII)


class Coded(NamedTuple):
    """A coded field: its MDC number or LOINC code, what it measures, and whether it names a panel.

    ``conflict`` is set when number and name are those of two things: the vitals that the value may be one of. Then the
    field measures nothing.
    """

    number: int | None
    loinc: str
    metric: Metric | None
    panel: bool = False
    name: str = ""
    conflict: tuple[int, ...] | None = None
    local: str = ""
    """Label of a code that the sender's code map gives a meaning."""
    unit: int | None = None
    """Unit of the sender's numbers by its code map."""

    def __str__(self) -> str:
        if self.local:
            return f"local:{self.local}"
        return f"mdc:{self.number}" if self.number is not None else f"loinc:{self.loinc}"

    @property
    def label(self) -> str:
        """The code as the worklist shows it: with its reference name, if it has one."""
        return f"{self} {self.name}" if self.name else str(self)


def mdc_number(code: str, name: str = "", system: str = "") -> int | None:
    """The 32-bit number of a code in any of its forms, None when it is in none.

    Worked: ``150021``, ``2::18949`` and ``18949`` are 150021, and so is the name ``MDC_PRESS_BLD_NONINV_SYS``;
    ``0002-4bb8`` of the system MDIL is 150456.
    """
    if system == _HEXADECIMAL_SYSTEM:
        found = _HEXADECIMAL.fullmatch(code)
        return None if found is None else int(found[1], 16) << 16 | int(found[2], 16)
    if found := _PARTITIONED.fullmatch(code):
        return int(found[1]) << 16 | int(found[2]) & 0xFFFF
    if _NUMBER.fullmatch(code):
        number = int(code)
        return number if number > 0xFFFF else _TERMS.get(number, number)
    return NAMES.get(code) or NAMES.get(name)


def triples(parts: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Code, name and system (in capitals) of a coded field, and of its alternate if it has one."""
    padded = [*parts, "", "", "", "", "", ""]
    yield padded[0], padded[1], padded[2].upper()
    if any(parts[3:6]):
        yield padded[3], padded[4], padded[5].upper()


@lru_cache(maxsize=4096)
def observation(parts: tuple[str, ...]) -> Coded | None:
    """What the components of OBX-3 name: the first triple that is a vital or contradicts itself, else the first whose
    code is MDC or LOINC; None when there is none."""
    named: Coded | None = None
    for code, name, system in triples(parts):
        found = _loinc(code, system) or _mdc(code, name, system)
        if found is not None and (found.metric is not None or found.conflict is not None):
            return found
        named = named or found
    return named


def _loinc(code: str, system: str) -> Coded | None:
    if system not in _LOINC_SYSTEMS or not _LOINC_FORM.fullmatch(code):
        return None
    return Coded(None, code, LOINC.get(code), code in PANEL_LOINC)


def _mdc(code: str, name: str, system: str) -> Coded | None:
    if system not in _MDC_SYSTEMS and system != _HEXADECIMAL_SYSTEM:
        return None
    number = mdc_number(code, name, system)
    said = next((word for word in (name, code) if _REFERENCE_FORM.fullmatch(word)), "")
    # A bare number that the tables do not know may be anything, a record number too.
    if number is None or not (system or said or number in METRICS):
        return None
    # The second component of an MDIL triple is a label of the monitor, no reference name.
    if system == _HEXADECIMAL_SYSTEM:
        found = Agreement(METRICS.get(number))
    else:
        found = agreed(number, said, is_other=number in _STRUCTURE or number in MDC_UNITS)
    conflict = found.perhaps if found.contradicts else None
    return Coded(number, "", found.metric, number in PANELS and conflict is None, said, conflict)


def is_structure(coded: Coded) -> bool:
    """Whether a code names a device, a panel, a status word or another row that is no measurement."""
    return coded.panel or coded.number in _STRUCTURE or coded.number in MDC_UNITS


def local_label(parts: Sequence[str]) -> str:
    """A code of another system as the worklist shows it: ``99MNDRY:108``. What may be text is a digest."""
    code, _, system = next(triples(parts))
    if not _SYSTEM_FORM.fullmatch(system):
        system = "local"
    if not _CODE_FORM.fullmatch(code):
        code = f"#{blake2b(code.encode(), digest_size=4).hexdigest()}"
    return f"{system}:{code}"


@lru_cache(maxsize=4096)
def unit(vital: int, parts: tuple[str, ...]) -> int | None:
    """The unit that the components of OBX-6 name, None when none of them measures ``vital``."""
    for code, name, system in triples(parts):
        number = mdc_number(code, system=system)
        term = "" if number is None else str(number if number > 0xFFFF else _UNIT_PARTITION | number)
        for spelling in (term, code, MDC_UNIT_NAMES.get(name, "")):
            found = unit_of(vital, spelling)
            if found is not None:
                return found
    return None


def rhythm(number: int) -> str:
    """The catalogue's word for an MDC rhythm code, empty for another."""
    return next((word for word, code in _RHYTHM.other_codes.items() if code == number), "")


def is_mdc(parts: Sequence[str]) -> bool:
    """Whether a coded value says that it is an MDC code: other numbers may be anything."""
    return parts[2:3] == ["MDC"] or (parts[1:2] != [] and parts[1].startswith("MDC_"))
