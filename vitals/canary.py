"""The canary: an artificial patient and device whose readings test the way from gateway to alert book.

Their tokens are reserved: no generated one has their form, and nobody may enrol a device under it. Whatever lists,
counts or tells people of patients, devices and alerts leaves them out by :func:`is_canary`.
"""

from typing import Final

CANARY_PATIENT: Final = "p_canary"
CANARY_DEVICE: Final = "d_canary"
_TOKENS: Final = frozenset({CANARY_PATIENT, CANARY_DEVICE})


def is_canary(token: str) -> bool:
    """Whether a token of a patient or a device is the canary's."""
    return token in _TOKENS
