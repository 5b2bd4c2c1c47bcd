"""Comparison of record numbers that messages state with those of the identity vault."""

import re
from hashlib import blake2b
from typing import Final

import structlog

from vitals.errors import VitalgateError
from vitals.records import NamedPatient
from vitals.vault import IdentityVault

_log = structlog.get_logger(__name__)
LARGEST_CACHE: Final = 65_536
"""Patients whose digests are kept, about 10 MB."""
_PUNCTUATION: Final = re.compile(r"[^0-9A-Za-z]")
_DIGIT: Final = re.compile(r"[1-9]")


def plain_number(text: str) -> str:
    """A record number without case, punctuation and leading zeros; empty for a placeholder without a digit from 1 to 9.

    Worked: `` 00-12a `` and ``12A`` are ``12A``; ``000`` and ``UNKNOWN`` are empty.
    """
    return _PUNCTUATION.sub("", text).upper().lstrip("0") if _DIGIT.search(text) else ""


class RecordNumbers:
    """``PatientCheck`` over an identity vault. Of numbers it keeps digests under ``key``, those of the vault until any
    identity changes. One thread asks."""

    def __init__(self, identities: IdentityVault, key: bytes) -> None:
        self._identities = identities
        self._key = key
        self._version = -1
        self._known: dict[str, str] = {}
        self._everybody: frozenset[str] | None = None

    def kept(self, named: NamedPatient) -> str:
        """Digests of the record numbers, and of the others behind a semicolon; empty without a record number."""
        stated, others = (
            ",".join(filter(None, map(self._digest, numbers))) for numbers in (named.record_numbers, named.others)
        )
        return f"{stated};{others}" if stated else ""

    def contradicts(self, patient: str, named: NamedPatient | str) -> bool:
        """Whether the patient has a record number and ``named`` states others only, or has none and ``named`` states
        that of somebody else. An identity that cannot be read contradicts nothing: the assignment decides then."""
        stated, _, others = (named if isinstance(named, str) else self.kept(named)).partition(";")
        if not stated:
            return False
        own = self._own(patient)
        if not own:
            return not self._numbers().isdisjoint(stated.split(","))
        return own not in stated.split(",") and own not in others.split(",")

    def _fresh(self) -> None:
        """Forget what was read before an identity changed."""
        version = self._identities.version
        if version != self._version or len(self._known) >= LARGEST_CACHE:
            self._known, self._everybody, self._version = {}, None, version

    def _numbers(self) -> frozenset[str]:
        """Digests of the record numbers of all patients."""
        self._fresh()
        if self._everybody is None:
            try:
                identities = self._identities.all()
            except VitalgateError as error:
                _log.error("identities_not_readable", error=type(error).__name__)
                identities = {}
            digests = (self._digest(identity.mrn or "") for identity in identities.values())
            self._everybody = frozenset(filter(None, digests))
        return self._everybody

    def _own(self, patient: str) -> str:
        self._fresh()
        if (known := self._known.get(patient)) is not None:
            return known
        try:
            identity = self._identities.get(patient)
        except VitalgateError as error:
            _log.error("identity_not_readable", patient=patient, error=type(error).__name__)
            identity = None
        own = self._digest(identity.mrn or "") if identity is not None else ""
        self._known[patient] = own
        return own

    def _digest(self, number: str) -> str:
        """Empty for a placeholder."""
        plain = plain_number(number)
        return blake2b(plain.encode(), key=self._key, digest_size=16).hexdigest() if plain else ""
