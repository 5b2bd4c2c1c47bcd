"""Bytes to a JSON document, for adapters that look at it step by step."""

import json
from typing import Any, Final

from vitals.errors import DecodeError
from vitals.glossary import Reason


class Repeated:
    """Stands for an object that gives a member twice: which of the two was meant is a guess, so nothing reads it."""


REPEATED: Final = Repeated()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeated:
    members = dict(pairs)
    return members if len(members) == len(pairs) else REPEATED


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)


def document(payload: bytes) -> Any:
    """The document of UTF-8 ``payload``; each object that gives a member twice is ``REPEATED``. ``NaN`` and
    ``Infinity`` become floats: the member they stand in is to refuse them, its neighbours are not hurt.

    Raises:
        DecodeError: no bytes, not UTF-8, not JSON, nested too deeply, a number too long to read.
    """
    if not payload:
        raise DecodeError(Reason.EMPTY)
    try:
        return _DECODER.decode(payload.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"not JSON at character {error.pos}") from None
    except ValueError:
        raise DecodeError(Reason.MALFORMED, "a number has too many digits") from None
    except RecursionError:
        raise DecodeError(Reason.MALFORMED, "nested too deeply") from None
