"""A strict MQTT 3.1.1 publisher over plain sockets, for the chaos test, and what it was promised.

Strict: on session-present 0 it forgets what it has not seen acknowledged, as a client may. A lenient one sends again.
The encoding is written here once more on purpose: it shares nothing with the endpoint's codec.
"""

import asyncio
import json
import struct
import time
from collections import OrderedDict
from dataclasses import dataclass, field

WINDOW = 8


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    length, head = len(body), bytearray([first])
    while True:
        length, digit = divmod(length, 128)
        head.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


@dataclass
class Publisher:
    """One device. ``acked`` are the sequence numbers that the server took responsibility for."""

    host: str
    port: int
    device: str
    secret: str
    qos: int
    strict: bool
    episode: int
    """Sequence number of the one reading that must raise an alert."""
    acked: set[int] = field(default_factory=set)
    sent: int = 0
    forgotten: int = 0
    fresh_sessions: int = 0
    times: dict[int, int] = field(default_factory=dict)
    _inflight: "OrderedDict[int, tuple[int, bool]]" = field(default_factory=OrderedDict)
    """packet id -> (seq, released): QoS 2 messages stay until PUBCOMP."""

    async def run(self, stop: asyncio.Event, pause_s: float) -> None:
        """Publish until ``stop`` and all is acknowledged, whatever happens to the server."""
        while not (stop.is_set() and not self._inflight):
            try:
                await self._connection(stop, pause_s)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _connection(self, stop: asyncio.Event, pause_s: float) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            flags = bytes([4, 0xC0, 0, 60])
            body = _text("MQTT") + flags + _text(self.device) + _text(self.device) + _text(self.secret)
            writer.write(_packet(0x10, body))
            connack = await asyncio.wait_for(reader.readexactly(4), 20)
            assert connack[0] == 0x20, connack
            assert connack[3] == 0, f"refused: {connack[3]}"
            self._resume(writer, session_present=bool(connack[2] & 1))
            reading = asyncio.create_task(self._read(reader, writer))
            try:
                while not reading.done() and not (stop.is_set() and not self._inflight):
                    if not stop.is_set() and len(self._inflight) < WINDOW:
                        self._publish(writer)
                    await asyncio.sleep(pause_s)
                if reading.done():
                    reading.result()
            finally:
                reading.cancel()
        finally:
            writer.transport.abort()

    def _resume(self, writer: asyncio.StreamWriter, *, session_present: bool) -> None:
        if not session_present:
            self.fresh_sessions += 1
            if self.strict:
                self.forgotten += len(self._inflight)
                self._inflight.clear()
        for packet_id, (seq, released) in self._inflight.items():
            if released:
                writer.write(_packet(0x62, struct.pack(">H", packet_id)))
            else:
                writer.write(self._message(seq, packet_id, dup=True))

    def _publish(self, writer: asyncio.StreamWriter) -> None:
        seq = self.sent
        self.sent += 1
        packet_id = next(number for number in range(seq % 65535 + 1, 65536) if number not in self._inflight)
        self._inflight[packet_id] = (seq, False)
        writer.write(self._message(seq, packet_id, dup=False))

    def _message(self, seq: int, packet_id: int, *, dup: bool) -> bytes:
        at = self.times.setdefault(seq, max(time.time_ns() // 1_000_000, self.times.get(seq - 1, 0) + 1))
        value = 180 if seq == self.episode else 70 + seq % 20
        payload = json.dumps({"vital": "heart_rate", "value": value, "unit": "/min", "time": at, "seq": seq}).encode()
        first = 0x30 | self.qos << 1 | (0x08 if dup else 0)
        return _packet(first, _text(f"vitals/{self.device}/json") + struct.pack(">H", packet_id) + payload)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, length, packet_id = struct.unpack(">BBH", await reader.readexactly(4))
            assert length == 2, (first, length)
            seq, _ = self._inflight.get(packet_id, (-1, False))
            if first == 0x40:
                self._settle(packet_id)
            elif first == 0x50:
                self.acked.add(seq)
                if packet_id in self._inflight:
                    self._inflight[packet_id] = (seq, True)
                writer.write(_packet(0x62, struct.pack(">H", packet_id)))
            elif first == 0x70:
                self._inflight.pop(packet_id, None)
            else:
                raise AssertionError(f"unexpected packet {first:#x}")

    def _settle(self, packet_id: int) -> None:
        found = self._inflight.pop(packet_id, None)
        assert found is not None, f"PUBACK for {packet_id}, which is not under way"
        self.acked.add(found[0])
