"""Identifiers by which payloads name a patient, whatever their format."""

import re
from collections.abc import Iterable
from typing import Final

from vitals.records import NamedPatient

RECORD_NUMBER_TYPES: Final = frozenset({"", "MR", "PI", "PT", "U"})
"""Types of identifiers (HL7 table 0203) that stand for the record number of the site: medical record number, internal
and external patient number, unspecified. Others (account, visit, insurance, passport) can only agree with it."""
OTHER: Final = "other"
_NUMBER: Final = re.compile(r"[1-9]")


def stated_patient(identifiers: Iterable[tuple[str, str]]) -> NamedPatient | None:
    """The patient of (number, type) pairs; None without a record number. A number without a digit from 1 to 9 is a
    placeholder of the device (``UNKNOWN``, ``000``) and names nobody."""
    stated = [(number, kind.strip().upper()) for number, kind in identifiers if _NUMBER.search(number)]
    record_numbers = tuple(number for number, kind in stated if kind in RECORD_NUMBER_TYPES)
    if not record_numbers:
        return None
    return NamedPatient(record_numbers, tuple(number for number, kind in stated if kind not in RECORD_NUMBER_TYPES))
