"""JSON documents of devices, read strictly: what adapters of JSON share.

The readers of parts raise ``DecodeError`` with the part's path, which quotes names of the format only.
"""

import json
import math
import re
from collections.abc import Container
from typing import Any, Final

from ingest.adapters.reading.marks import without_marks
from ingest.adapters.reading.timestamps import parse_time
from vitals.errors import DecodeError
from vitals.glossary import Reason


class Repeated(dict[str, Any]):
    """An object that gives a member twice: which of the two was meant is a guess."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(members)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


# A string that does not end is taken to the end of the text: looked for from each quote, it would cost the square.
_TOKEN: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"?|(?<![\w.])(-?)(nan|inf(?:inity)?)(?![\w.])', re.IGNORECASE | re.ASCII | re.DOTALL
)


def _constant(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[0]
    return "NaN" if found[2].lower() == "nan" else f"{found[1]}Infinity"


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        # C and Python print ``nan`` and ``inf``, which would cost the document all of its other values.
        respelled = _TOKEN.sub(_constant, text)
        if respelled == text:
            raise
    return _DECODER.decode(respelled)


def parse(payload: bytes) -> Any:
    """The document of a payload; its objects are ``dict``, or ``Repeated``. Numbers may be NaN or infinite.

    A byte order mark before the document and NUL bytes behind it are not part of it.

    Raises:
        DecodeError: EMPTY, or MALFORMED with the place.
    """
    if not payload:
        raise DecodeError(Reason.EMPTY)
    try:
        return _decoded(without_marks(payload).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"not JSON at character {error.pos}") from None
    except ValueError:
        raise DecodeError(Reason.MALFORMED, "a number has too many digits") from None
    except RecursionError:
        raise DecodeError(Reason.MALFORMED, "nested too deeply") from None


def number(value: Any, path: str) -> float:
    """A finite number; else BAD_TYPE or BAD_VALUE."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(Reason.BAD_TYPE, path)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise DecodeError(Reason.BAD_VALUE, path)
    return found


def members(value: Any, path: str) -> dict[str, Any]:
    """An object; else BAD_TYPE, or MALFORMED when it gives a member twice."""
    if type(value) is dict:
        return value
    if isinstance(value, Repeated):
        raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
    raise DecodeError(Reason.BAD_TYPE, path)


def required(item: dict[str, Any], name: str, path: str) -> Any:
    """A member of ``item``, which stands at ``path``; else MISSING_FIELD."""
    try:
        return item[name]
    except KeyError:
        raise DecodeError(Reason.MISSING_FIELD, f"{path}.{name}") from None


def text(value: Any, path: str) -> str:
    """A string; else BAD_TYPE."""
    if not isinstance(value, str):
        raise DecodeError(Reason.BAD_TYPE, path)
    return value


def one_of(value: Any, path: str, allowed: Container[str]) -> str:
    """A word of ``allowed``; else BAD_TYPE or BAD_VALUE."""
    word = text(value, path)
    if word not in allowed:
        raise DecodeError(Reason.BAD_VALUE, path)
    return word


def instant(value: Any, path: str) -> tuple[int, int | None]:
    """A time as ``timestamps.parse_time`` gives it; else BAD_TYPE or BAD_TIME."""
    time = text(value, path)
    try:
        return parse_time(time)
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, path) from None
