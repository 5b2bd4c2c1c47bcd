"""HL7 v2 on the wire, without sockets (interop.md 2.1): frames, the MSH of a message, its acknowledgement."""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

_START: Final = 0x0B
_END: Final = 0x1C
_CLOSING: Final = b"\r\n"
GARBAGE_BYTES: Final = 8 * 1024 * 1024
"""More before a frame is no start of a serial server: the client speaks something else."""
_HEAD: Final = b"MSH"
_ECHO_BYTES: Final = 1000
"""More of a field is not sent back: in version 2.6 none of them has more than 227."""
_TRIGGER: Final = re.compile(rb"[A-Z]\d\d")


class BrokenFrame(Exception):
    """The bytes are no frame, and where the next one begins cannot be known; ``reason`` is the word in metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Framer:
    """Bytes to messages. ``cut`` counts what is dropped, unacknowledged: frames that another one began in, and garbage
    before a frame, such as the end of one whose beginning was lost."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._seen = 0
        self._skipped = 0
        self.cut = 0

    @property
    def begun(self) -> bool:
        """Whether a frame waits for its end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take in bytes."""
        self._buffer += data

    def head(self) -> bytes:
        """The first bytes of the frame that is under way."""
        return bytes(self._buffer[1:_ECHO_BYTES])

    def next(self) -> bytes | None:
        """The next message, None when more bytes are needed; line ends and garbage between frames are tolerated, and
        an end with a line feed, or nothing but the next frame, in place of its carriage return.

        Raises:
            BrokenFrame: no start in ``GARBAGE_BYTES`` or a message without one (``mllp_no_frame``), a
                broken end (``mllp_broken_frame``), or over the largest size (``mllp_frame_too_large``).
        """
        buffer = self._buffer
        if not self._seen and not self._skipped:
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        if not buffer:
            return None
        if buffer[0] != _START and not self._resumed():
            return None
        end = buffer.find(_END, self._seen)
        again = buffer.rfind(_START, max(1, self._seen), len(buffer) if end < 0 else end)
        if again > 0:
            self.cut += 1
            del buffer[:again]
            end = end - again if end >= 0 else end
        if (len(buffer) if end < 0 else end) - 1 > self._max_frame:
            raise BrokenFrame("mllp_frame_too_large")
        self._seen = len(buffer) if end < 0 else end
        if end < 0 or end + 1 == len(buffer):
            return None
        closed = buffer[end + 1] in _CLOSING
        if not closed and buffer[end + 1] != _START:
            raise BrokenFrame("mllp_broken_frame")
        message = bytes(buffer[1:end])
        del buffer[: end + 1 + closed]
        self._seen = 0
        return message

    def _resumed(self) -> bool:
        """Whether a frame begins behind garbage, which is dropped. A message without its frame is none: what it says
        must not get lost without a sign, so it ends the connection."""
        start = self._buffer.find(_START)
        garbage = len(self._buffer) if start < 0 else start
        if self._skipped + garbage > GARBAGE_BYTES or self._buffer.find(_HEAD, 0, garbage) >= 0:
            raise BrokenFrame("mllp_no_frame")
        if start < 0:
            # What is dropped may end in the first bytes of a message.
            dropped = max(0, garbage - len(_HEAD) + 1)
            del self._buffer[:dropped]
            self._skipped += dropped
            return False
        self.cut += 1
        self._skipped = 0
        del self._buffer[:start]
        return True


class Head(NamedTuple):
    """The MSH of a message: ``fields[n]`` is MSH-n."""

    fields: list[bytes]

    def field(self, number: int) -> bytes:
        """MSH-``number``; empty if the field is absent."""
        return self.fields[number] if number < len(self.fields) else b""

    @property
    def component(self) -> bytes:
        """What separates components."""
        return self.fields[2][:1]

    def parts(self, number: int) -> list[bytes]:
        """Components of a field."""
        return self.field(number).split(self.component)

    def sender(self) -> tuple[str, str]:
        """Application and facility: the name, for an application without one its universal id."""
        application, facility = self.parts(3), self.parts(4)
        named = next((part for part in application[:2] if part), b"")
        return named.decode("latin-1"), facility[0].decode("latin-1")


_NO_HEAD: Final = Head([b"MSH", b"|", b"^~\\&"])


def head_of(message: bytes) -> Head | None:
    """The MSH that a message begins with, None when it begins with none."""
    line = re.split(rb"[\r\n]", message.lstrip(b"\r\n"), maxsplit=1)[0]
    separator = line[3:4]
    if not line.startswith(b"MSH") or separator.isalnum() or separator <= b" ":
        return None
    marks = line[4:].partition(separator)[0]
    if not 1 <= len(marks) <= 5 or any(mark <= 0x20 for mark in marks) or marks[:1].isalnum():
        return None
    return Head([b"MSH", separator, *line[4:].split(separator)])


def acknowledgement(head: Head | None, code: str, reason: str, control: str, now_ns: int) -> bytes:
    """The framed ACK^R01^ACK of a message, in its delimiters: MSA-2 is its MSH-10, MSA-3 the reason of a refusal."""
    known = _NO_HEAD if head is None else head
    separator, component = known.field(1), known.component
    trigger = (known.parts(9)[1:2] or [b""])[0]
    kind = [b"ACK", trigger if _TRIGGER.fullmatch(trigger) else b"R01", b"ACK"]
    time = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y%m%d%H%M%S+0000")
    header = [
        b"MSH", known.field(2), known.field(5), known.field(6), known.field(3), known.field(4), time.encode(), b"",
        component.join(kind), control.encode(), known.field(11) or b"P", known.field(12) or b"2.6",
    ]  # fmt: skip
    if known.field(18):
        header += [b"", b"", b"", b"", b"", known.field(18)]
    answer = [b"MSA", code.encode(), known.field(10), *([reason.encode()] if reason else [])]
    lines = [separator.join(item[:_ECHO_BYTES] for item in fields) + b"\r" for fields in (header, answer)]
    return b"\x0b" + b"".join(lines) + b"\x1c\r"
