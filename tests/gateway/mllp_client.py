"""An HL7 sender over MLLP that speaks bytes, and the messages that it sends."""

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

VT, END = b"\x0b", b"\x1c\r"


class Ack(NamedTuple):
    """An acknowledgement: its MSH and MSA fields, ``msh[n]`` being MSH-n."""

    msh: list[str]
    msa: list[str]

    @property
    def code(self) -> str:
        return self.msa[1]

    @property
    def control(self) -> str:
        return self.msa[2]

    @property
    def reason(self) -> str:
        return self.msa[3] if len(self.msa) > 3 else ""


def oru(
    control: str = "N1", *, application: str = "HUB17^0024BEFFFE804FF1^EUI-64", facility: str = "",
    kind: str = "ORU^R01^ORU_R01", accept: str = "NE", value: str = "97", status: str = "R",
    time: str = "20240310210400-0400", charset: str = "", padding: int = 0,
) -> bytes:  # fmt: skip
    """A PCD-01 message with one SpO2."""
    lines = [
        f"MSH|^~\\&|{application}|{facility}|RPM|SITE|20240310210522-0400||{kind}|{control}|P|2.6|||{accept}|"
        f"{'NE' if accept == 'AL' else 'AL'}||{charset}",
        "PID|1||PT-0017^^^HOSP^MR||Doe^Jane",
        f"OBR|1|||182777000^monitoring of patient^SCT|||{time}",
        f"OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.1|{value}|262688^MDC_DIM_PERCENT^MDC|||||{status}|||{time}",
        *([f"NTE|1||{'x' * padding}"] if padding else []),
    ]
    return "".join(line + "\r" for line in lines).encode()


def framed(*messages: bytes) -> bytes:
    return b"".join(VT + message + END for message in messages)


class Sender:
    """One connection. ``with Sender(port) as sender``."""

    def __init__(self, peer: int | socket.socket, timeout_s: float = 20.0) -> None:
        self.socket = peer if isinstance(peer, socket.socket) else socket.create_connection(("127.0.0.1", peer), 10)
        self.socket.settimeout(timeout_s)
        self._buffer = b""

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ack(self) -> Ack | None:
        """The next acknowledgement, None when the other side hung up."""
        while END not in self._buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(END)
        assert frame[:1] == VT
        return parsed(frame[1:])

    def answer(self, message: bytes) -> Ack:
        """Send one message; its acknowledgement."""
        self.send(framed(message))
        ack = self.ack()
        assert ack is not None, "hung up"
        return ack


def parsed(message: bytes) -> Ack:
    """An ACK by its own delimiters; every segment ends with CR."""
    assert message.endswith(b"\r")
    text = message.decode("latin-1")
    separator = text[3]
    header, answer, *more = text.removesuffix("\r").split("\r")
    assert not more
    return Ack(["MSH", separator, *header[4:].split(separator)], answer.split(separator))


def codes(acks: Sequence[Any]) -> list[str]:
    return [ack.code for ack in acks]
