"""Comparison of record numbers that messages state with those of the identity vault."""

import re
import secrets
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
    """``PatientCheck`` over an identity vault. Of a number that was decrypted it keeps a digest, under a key of this
    process, until any identity changes. One thread asks."""

    def __init__(self, identities: IdentityVault) -> None:
        self._identities = identities
        self._key = secrets.token_bytes(16)
        self._version = -1
        self._known: dict[str, bytes] = {}

    def contradicts(self, patient: str, named: NamedPatient) -> bool:
        """Whether the patient has a record number and ``named`` states others only. An identity that cannot be read
        contradicts nothing: the assignment decides then."""
        own = self._own(patient)
        if not own:
            return False
        stated = [self._digest(number) for number in named.record_numbers]
        return any(stated) and own not in stated and own not in map(self._digest, named.others)

    def _own(self, patient: str) -> bytes:
        version = self._identities.version
        if version != self._version or len(self._known) >= LARGEST_CACHE:
            self._known, self._version = {}, version
        if (known := self._known.get(patient)) is not None:
            return known
        try:
            identity = self._identities.get(patient)
        except VitalgateError as error:
            _log.error("identity_not_readable", patient=patient, error=type(error).__name__)
            identity = None
        own = self._digest(identity.mrn or "") if identity is not None else b""
        self._known[patient] = own
        return own

    def _digest(self, number: str) -> bytes:
        """Empty for a placeholder."""
        plain = plain_number(number)
        return blake2b(plain.encode(), key=self._key, digest_size=16).digest() if plain else b""
