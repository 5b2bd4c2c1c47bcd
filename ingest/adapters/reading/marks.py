"""What programs leave around a text: a byte order mark before it, the end of a C string after it."""

from typing import Final

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def without_marks(payload: bytes) -> bytes:
    """``payload`` without a UTF-8 byte order mark in front and NUL bytes behind."""
    while payload.startswith(_BYTE_ORDER_MARK):
        payload = payload[len(_BYTE_ORDER_MARK) :]
    return payload.rstrip(b"\0")
