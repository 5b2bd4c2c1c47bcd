"""Fields inside a packet, checked: lengths, UTF-8, and characters that a topic may not have."""

import re

from device_gateway.mqtt.packets import Malformed

_FORBIDDEN_IN_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORBIDDEN_IN_TOPIC = re.compile("[\x00-\x1f\x7f-\x9f#+]")


def text_of(raw: bytes) -> str:
    """UTF-8 without NUL (1.5.4)."""
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("text is not UTF-8") from error
    if "\0" in text:
        raise Malformed("NUL in text")
    return text


def topic_of(raw: bytes) -> str:
    """A topic name to publish to: UTF-8 without wildcards and control characters (1.5.4, 3.3.2.1)."""
    try:
        topic = str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("topic is not UTF-8") from error
    if _FORBIDDEN_IN_TOPIC.search(topic):
        raise Malformed("wildcard or control character in a topic")
    return topic


def name_of(raw: bytes) -> str:
    """A client id, user name or topic filter: UTF-8 without control characters."""
    text = text_of(raw)
    if _FORBIDDEN_IN_NAME.search(text):
        raise Malformed("control character in a name")
    return text


class Fields:
    """Reads the fields of ``data[at:end]`` in order; every reader raises ``Malformed`` when they run out."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def _take(self, size: int) -> int:
        start = self.at
        if start + size > self.end:
            raise Malformed("packet ends before its fields do")
        self.at = start + size
        return start

    def u8(self) -> int:
        return self.data[self._take(1)]

    def u16(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def raw(self, size: int) -> bytes:
        start = self._take(size)
        return self.data[start : start + size]

    def blob(self) -> bytes:
        """Binary data with a two-byte length."""
        return self.raw(self.u16())

    def varint(self) -> int:
        """A variable byte integer of at most four bytes (1.5.5)."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("variable byte integer of more than four bytes")

    def packet_id(self) -> int:
        """A packet identifier, never 0 (2.2.1)."""
        value = self.u16()
        if value == 0:
            raise Malformed("packet id 0")
        return value

    def finish(self) -> None:
        """Nothing may follow the last field."""
        if self.at != self.end:
            raise Malformed("packet goes on after its last field")
