"""HL7 over MLLP: what is acknowledged is in the log, every refusal, broken and slow frames, TLS, a kill under load."""

import contextlib
import itertools
import random
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_gateway.hl7.frames import GARBAGE_BYTES, BrokenFrame, Framer, acknowledgement, head_of
from device_gateway.hl7.mllp import MllpEndpoint
from device_gateway.settings import GatewaySettings
from device_gateway.tls import TlsEndpoint
from tests.gateway.certificates import Authority
from tests.gateway.harness import Gateway, GatewayProcess, listening, messages, payloads, raw_log, received
from tests.gateway.mllp_client import END, VT, Sender, codes, framed, oru, parsed
from tests.support import eventually
from vitals.errors import ConfigError

SENDERS = {("HUB17", ""): "d1", ("HUB17", "WARD"): "d2", ("GONE", ""): "nobody"}


class Door:
    """A gateway with an MLLP listener."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port

    def sender(self) -> Sender:
        return Sender(self.port)

    def answered(self, code: str, reason: str) -> int:
        return self.gateway.counted(f'vitalgate_mllp_messages_total{{code="{code}",reason="{reason}"}}')

    def closed(self, reason: str, count: int = 1) -> None:
        eventually(lambda: self.gateway.closed(reason) == count, what=f"{count} closed for {reason}")


@contextlib.contextmanager
def opened(folder: Path, limits: GatewaySettings | None = None, **parts: Any) -> Iterator[Door]:
    with contextlib.closing(listening()) as sock:
        endpoint = MllpEndpoint([sock.dup()], None, parts.pop("senders", SENDERS), parts.pop("default_device", ""))
        with Gateway(folder, limits, mllp=endpoint, **parts) as gateway:
            yield Door(gateway, int(sock.getsockname()[1]))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("mllp")) as running:
        yield running


# Frames.


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=40).map(lambda data: bytes(set(data) - {0x0B, 0x1C})), max_size=5),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    between=st.sampled_from([b"", b"\r", b"\r\n", b"\n\n"]),
)
def test_frames_are_found_however_they_are_cut(contents: list[bytes], cuts: list[int], between: bytes) -> None:
    stream = b"".join(between + framed(content) for content in contents)
    framer, found = Framer(1000), []
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        framer.feed(stream[start:end])
        while (message := framer.next()) is not None:
            found.append(message)
    assert found == contents
    assert not framer.begun
    assert framer.cut == 0


@settings(derandomize=True, max_examples=300, deadline=None)
@given(parts=st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([VT, END, b"\x1c", b"MSH|^~\\&|"])), max_size=9))
def test_any_bytes_are_frames_or_a_reason(parts: list[bytes]) -> None:
    framer = Framer(64)
    with contextlib.suppress(BrokenFrame):
        for part in parts:
            framer.feed(part)
            while (message := framer.next()) is not None:
                assert VT not in message
                assert b"\x1c" not in message
                head = head_of(message)
                acknowledgement(head, "AR", "not_hl7", "1", 0)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"MSH|^~\\&|", "mllp_no_frame"),
        (b"\x00\x00MSH|^~\\&|", "mllp_no_frame"),
        (b"\x00" * 5000 + b"MSH|^~\\&|", "mllp_no_frame"),
        (VT + b"MSH\x1cX", "mllp_broken_frame"),
        (VT + b"M" * 65, "mllp_frame_too_large"),
        (VT + b"M" * 65 + END, "mllp_frame_too_large"),
    ],
)
def test_what_is_no_frame(stream: bytes, reason: str) -> None:
    for step in (1, len(stream)):
        with pytest.raises(BrokenFrame, match=reason):
            _fed(Framer(64), stream, step)
    framer = Framer(64)
    framer.feed(VT + b"M" * 64 + END)
    assert framer.next() == b"M" * 64


def _fed(framer: Framer, stream: bytes, step: int) -> None:
    for start in range(0, len(stream), step):
        framer.feed(stream[start : start + step])
        framer.next()


def test_garbage_is_skipped_up_to_a_bound_and_not_kept() -> None:
    framer, block = Framer(64), b"\xff" * 65_536
    for _ in range(GARBAGE_BYTES // len(block)):
        framer.feed(block)
        assert framer.next() is None
        assert len(framer.head()) < 3
    framer.feed(VT + b"one" + END)
    assert (framer.next(), framer.cut) == (b"one", 1)
    for _ in range(GARBAGE_BYTES // len(block)):
        framer.feed(block)
        framer.next()
    framer.feed(b"\xff" + VT)
    with pytest.raises(BrokenFrame, match="mllp_no_frame"):
        framer.next()


@pytest.mark.parametrize("end", [b"\x1c\r", b"\x1c\r\n", b"\x1c\n", b"\x1c\n\r", b"\x1c"])
def test_ends_of_frames_as_senders_write_them(end: bytes) -> None:
    stream = b"".join(VT + content + end for content in (b"one", b"two")) + VT + b"three" + END
    for step in (1, 2, len(stream)):
        framer, found = Framer(1000), []
        for start in range(0, len(stream), step):
            framer.feed(stream[start : start + step])
            while (message := framer.next()) is not None:
                found.append(message)
        assert found == [b"one", b"two", b"three"]
        assert (framer.cut, framer.begun) == (0, False)


@pytest.mark.parametrize("garbage", [b"\x00", b"|R|||2024\r\x1c\r", b"\xff" * 1024, b"\xff\r\n", b"+++\r\n" * 800])
def test_garbage_before_a_frame_is_dropped_and_counted(garbage: bytes) -> None:
    stream = VT + b"one" + END + garbage + VT + b"two" + END + VT + b"three" + END
    for step in (1, 7, len(stream)):
        framer, found = Framer(1000), []
        for start in range(0, len(stream), step):
            framer.feed(stream[start : start + step])
            while (message := framer.next()) is not None:
                found.append(message)
        assert found == [b"one", b"two", b"three"]
        assert (framer.cut, framer.begun) == (1, False)


def test_a_frame_that_another_begins_in_is_dropped() -> None:
    framer = Framer(1000)
    for piece in (VT + b"one", VT + b"tw", b"o" + VT + b"three" + END):
        framer.feed(piece)
        message = framer.next()
    assert (message, framer.cut) == (b"three", 2)


# Acknowledgements.


def test_what_was_answered_aa_is_in_the_log(tmp_path: Path) -> None:
    with opened(tmp_path) as door, door.sender() as sender:
        ack = sender.answer(oru("HUB17-000042"))
        assert (ack.code, ack.control, ack.reason) == ("AA", "HUB17-000042", "")
        [message] = messages(door.gateway.log)
        assert (message.device, message.adapter, message.kind) == ("d1", "hl7v2", "oru_r01")
        assert message.payload == oru("HUB17-000042")
        assert sender.answer(oru("N2", facility="WARD^1.2.3^ISO")).code == "AA"
        assert received(door.gateway.log) == {"d1": 1, "d2": 1}
        assert door.answered("AA", "stored") == 2
        assert door.gateway.counted("vitalgate_mllp_connections") == 1
        assert door.gateway.counted('vitalgate_messages_received_total{qos="1"}') == 2
    assert len(messages_again(tmp_path)) == 2


def messages_again(folder: Path) -> list[Any]:
    log = raw_log(folder)
    found = messages(log)
    log.close()
    return found


def test_the_acknowledgement_is_an_ack_r01_in_the_messages_own_delimiters(door: Door) -> None:
    with door.sender() as sender:
        ack = sender.answer(oru("N7", charset="UNICODE UTF-8"))
        assert ack.msh[:7] == ["MSH", "|", "^~\\&", "RPM", "SITE", "HUB17^0024BEFFFE804FF1^EUI-64", ""]
        assert ack.msh[9] == "ACK^R01^ACK"
        assert (ack.msh[11], ack.msh[12], ack.msh[18]) == ("P", "2.6", "UNICODE UTF-8")
        assert ack.msh[7].endswith("+0000")
        assert ack.msa == ["MSA", "AA", "N7"]
        other = oru("N8").translate(bytes.maketrans(b"|^~\\&", b"!$@/%"))
        again = sender.answer(other)
        assert again.msh[1:3] == ["!", "$@/%"]
        assert (again.msh[9], again.code, again.control) == ("ACK$R01$ACK", "AA", "N8")
        assert again.msh[10] != ack.msh[10]


def test_a_sender_that_asks_for_an_accept_acknowledgement_gets_one(door: Door) -> None:
    with door.sender() as sender:
        assert sender.answer(oru("N1", accept="AL")).msa == ["MSA", "CA", "N1"]
        assert sender.answer(oru("N1", accept="AL", application="STRANGER")).code == "CR"


def test_alarms_are_taken_as_messages_of_their_own_kind(tmp_path: Path) -> None:
    with opened(tmp_path) as door, door.sender() as sender:
        for number, trigger in enumerate(("R40", "R42")):
            ack = sender.answer(oru(f"N{number}", kind=f"ORU^{trigger}^ORU_{trigger}"))
            assert (ack.msh[9], ack.code) == (f"ACK^{trigger}^ACK", "AA")
        assert [message.kind for message in messages(door.gateway.log)] == ["oru_r40", "oru_r40"]


REFUSED = {
    "unknown sender": (oru("N9", application="STRANGER"), "unknown_sender", "N9"),
    "unknown facility": (oru("N9", facility="ELSEWHERE"), "unknown_sender", "N9"),
    "no sender": (oru("N9", application=""), "unknown_sender", "N9"),
    "device not enrolled": (oru("N9", application="GONE"), "unknown_device", "N9"),
    "another message": (oru("N9", kind="ADT^A01^ADT_A01"), "unsupported_message", "N9"),
    "another result": (oru("N9", kind="ORU^R41^ORU_R41"), "unsupported_message", "N9"),
    "no message type": (oru("N9", kind=""), "unsupported_message", "N9"),
    "no HL7": (b"hello", "not_hl7", ""),
    "nothing": (b"", "not_hl7", ""),
    "batch header": (b"FHS|^~\\&|\r" + oru(), "not_hl7", ""),
    "no delimiters": (b"MSH", "not_hl7", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_keep_nothing_and_the_connection_goes_on(door: Door, name: str) -> None:
    message, reason, control = REFUSED[name]
    before, counted = len(messages(door.gateway.log)), door.answered("AR", reason)
    with door.sender() as sender:
        ack = sender.answer(message)
        assert (ack.code, ack.reason, ack.control) == ("AR", reason, control)
        assert len(messages(door.gateway.log)) == before
        assert door.answered("AR", reason) == counted + 1
        assert sender.answer(oru("after")).code == "AA"


def test_what_has_an_msh_and_is_for_us_is_stored_undecodable_or_not(door: Door) -> None:
    head = oru("odd").partition(b"\r")[0]
    with door.sender() as sender:
        for message in (head, head + b"\r\xff\x00OBX|", head + b"\rOBX|1|NM|||||||||||||\r", b"\r\n" + head):
            assert sender.answer(message).code == "AA"
            assert message in payloads(door.gateway.log)
        assert sender.answer(oru("")).control == ""


def test_a_default_device_takes_other_senders(tmp_path: Path) -> None:
    with opened(tmp_path, default_device="d3") as door, door.sender() as sender:
        assert codes([sender.answer(oru(application="STRANGER")), sender.answer(oru())]) == ["AA", "AA"]
        assert received(door.gateway.log) == {"d3": 1, "d1": 1}


def test_a_retransmission_is_acknowledged_again_and_marked(tmp_path: Path) -> None:
    with opened(tmp_path) as door:
        for _ in range(2):
            with door.sender() as sender:
                assert sender.answer(oru("N1")).code == "AA"
        with door.sender() as sender:
            assert sender.answer(oru("N1", value="96")).code == "AA"
            assert sender.answer(oru("")).code == sender.answer(oru("")).code == "AA"
        first, again, changed, *unnumbered = messages(door.gateway.log)
        assert (first.resend_of, again.resend_of, changed.resend_of) == (-1, first.ordinal, -1)
        assert [message.resend_of for message in unnumbered] == [-1, -1]


def test_revoked_and_registry_away(tmp_path: Path) -> None:
    with opened(tmp_path) as door, door.sender() as sender:
        door.gateway.registry.down = True
        assert (ack := sender.answer(oru())).code == "AE"
        assert ack.reason == "registry_unavailable"
        door.gateway.registry.down = False
        assert sender.answer(oru()).code == "AA"
        door.gateway.registry.revoke("d1")
        assert (ack := sender.answer(oru())).code == "AR"
        assert ack.reason == "revoked"
        assert len(messages(door.gateway.log)) == 1


def test_no_aa_before_the_commit_and_none_without_it(tmp_path: Path) -> None:
    with opened(tmp_path, GatewaySettings(write_timeout_s=1.0)) as door, door.sender() as sender:
        answers: list[str] = []
        with door.gateway.log.transaction():
            waiting = threading.Thread(target=lambda: answers.append(sender.answer(oru("held")).code))
            waiting.start()
            waiting.join(0.5)
            assert answers == [], "the log is held by another writer"
        waiting.join(20)
        assert answers == ["AA"]
        [(pages,)] = door.gateway.log.query("PRAGMA page_count")
        with door.gateway.log.transaction() as tx:
            tx.connection.execute(f"PRAGMA max_page_count={pages + 2}")
        full = sender.answer(oru("full", padding=50_000))
        assert (full.code, full.reason) == ("AE", "log_not_writable")
        eventually(lambda: door.gateway.status()["reasons"] == ["log_not_writable"])
        assert sender.answer(oru("refused")).code == "AE"
        with door.gateway.log.transaction() as tx:
            tx.connection.execute("PRAGMA max_page_count=1000000")
        eventually(lambda: door.gateway.status()["ready"])
        assert sender.answer(oru("again")).code == "AA"
        stored = {message.payload for message in messages(door.gateway.log)}
        assert {oru("held"), oru("again")} <= stored
        assert oru("refused") not in stored


def test_a_device_over_its_rate_waits(tmp_path: Path) -> None:
    with opened(tmp_path, GatewaySettings(rate_per_s=5, burst=2)) as door, door.sender() as sender:
        sender.send(framed(*(oru(f"N{n}") for n in range(8))))
        assert codes([sender.ack() for _ in range(8)]) == ["AA"] * 8
        assert door.gateway.counted("vitalgate_rate_pauses_total") >= 4


# Broken and slow.


def test_messages_in_one_write_or_byte_by_byte(door: Door) -> None:
    with door.sender() as sender:
        sender.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender.send(b"\r\n" + framed(oru("A"), oru("B")) + b"\r\n" + framed(oru("C"))[:-1])
        acks = [sender.ack(), sender.ack()]
        sender.send(b"\r")
        acks.append(sender.ack())
        for byte in framed(oru("D")):
            sender.send(bytes((byte,)))
        acks.append(sender.ack())
        assert [ack.control for ack in acks if ack is not None] == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * (GARBAGE_BYTES + 1), "mllp_no_frame"),
        (oru(), "mllp_no_frame"),
        (VT + oru() + b"\x1cX", "mllp_broken_frame"),
        (VT + oru(), "mllp_cut_frame"),
    ],
)
def test_what_is_no_frame_ends_its_connection_unacknowledged(tmp_path: Path, data: bytes, reason: str) -> None:
    with opened(tmp_path) as door, door.sender() as healthy:
        assert healthy.answer(oru("before")).code == "AA"
        with door.sender() as sender:
            with contextlib.suppress(ConnectionError):  # Hung up in the middle of it.
                sender.send(data)
            if reason == "mllp_cut_frame":
                sender.socket.shutdown(socket.SHUT_WR)
            assert sender.ack() is None
        door.closed(reason)
        assert healthy.answer(oru("after")).code == "AA"
        assert len(messages(door.gateway.log)) == 2


@pytest.mark.parametrize("garbage", [b"\x00\xff+++", b"x" * 3_000_000])
def test_garbage_before_a_frame_costs_no_message(tmp_path: Path, garbage: bytes) -> None:
    with opened(tmp_path) as door:
        with door.sender() as sender:
            sender.send(garbage + framed(oru("first")))
            ack = sender.ack()
            assert ack is not None
            assert (ack.code, ack.control) == ("AA", "first")
            assert sender.answer(oru("second")).code == "AA"
        door.closed("mllp_cut_frame")
        assert list(payloads(door.gateway.log)) == [oru("first"), oru("second")]


@pytest.mark.parametrize("end", [b"\x1c\r\n", b"\x1c\n", b"\x1c"])
def test_a_frame_that_ends_otherwise_is_answered_and_the_connection_stays(tmp_path: Path, end: bytes) -> None:
    with opened(tmp_path) as door, door.sender() as sender:
        for control in ("first", "second"):
            sender.send(VT + oru(control) + end + (b"" if len(end) > 1 else framed(oru("next"))))
            ack = sender.ack()
            assert ack is not None
            assert (ack.code, ack.control) == ("AA", control)
            if len(end) == 1:
                assert sender.ack() is not None
        assert sender.answer(oru("third")).code == "AA"


def test_a_cut_frame_before_a_whole_one_is_counted_and_not_acknowledged(tmp_path: Path) -> None:
    with opened(tmp_path) as door:
        with door.sender() as sender:
            sender.send(VT + oru("cut")[:50] + framed(oru("whole")))
            ack = sender.ack()
            assert ack is not None
            assert (ack.code, ack.control) == ("AA", "whole")
        door.closed("mllp_cut_frame")
        assert list(payloads(door.gateway.log)) == [oru("whole")]


def test_a_frame_over_the_limit_is_refused_with_its_number(tmp_path: Path) -> None:
    with opened(tmp_path, GatewaySettings(mllp_max_frame=2000)) as door, door.sender() as sender:
        assert sender.answer(oru("fits", padding=1000)).code == "AA"
        # Much more than it takes: the answer is not lost to a close with bytes unread.
        sender.send(framed(oru("large", padding=150_000)))
        ack = sender.ack()
        assert ack is not None
        assert (ack.code, ack.control, ack.reason) == ("AR", "large", "frame_too_large")
        assert sender.ack() is None
        door.closed("mllp_frame_too_large")
        assert len(messages(door.gateway.log)) == 1


def test_slow_and_silent_connections_end(tmp_path: Path) -> None:
    limits = GatewaySettings(packet_timeout_s=0.5, mllp_idle_s=1.0)
    with opened(tmp_path, limits) as door, door.sender() as slow, door.sender() as silent:
        data = framed(oru())

        def drip() -> bool:
            """A byte now and then does not buy time."""
            try:
                slow.send(bytes((data[min(drip.sent, 40)],)))  # type: ignore[attr-defined]
            except OSError:
                return True
            drip.sent += 1  # type: ignore[attr-defined]
            return door.gateway.closed("mllp_frame_timeout") == 1

        drip.sent = 0  # type: ignore[attr-defined]
        eventually(drip, what="the slow one is ended")
        door.closed("mllp_frame_timeout")
        assert silent.ack() is None
        door.closed("mllp_idle")
        assert messages(door.gateway.log) == []


def test_connections_are_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, GatewaySettings(mllp_connections=2)) as door:
        with door.sender() as one, door.sender() as two:
            assert codes([one.answer(oru()), two.answer(oru())]) == ["AA", "AA"]
            with door.sender() as third:
                assert third.ack() is None
            door.closed("mllp_connections")
        eventually(lambda: door.gateway.counted("vitalgate_mllp_connections") == 0)
        with door.sender() as sender:
            assert sender.answer(oru()).code == "AA"


def test_an_orderly_stop_answers_what_it_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as door, door.sender() as busy, door.sender() as idle:
        assert idle.answer(oru("idle")).code == "AA"
        with door.gateway.log.transaction():
            busy.send(framed(oru("busy")))
            eventually(lambda: door.gateway.counted('vitalgate_messages_received_total{qos="1"}') == 2)
            stopping = threading.Thread(target=door.gateway.stop)
            stopping.start()
        ack = busy.ack()
        assert ack is not None
        assert ack.code == "AA"
        stopping.join(20)
        assert busy.ack() is None
    assert [message.payload for message in messages_again(tmp_path)] == [oru("idle"), oru("busy")]


# TLS.


@contextlib.contextmanager
def secured(folder: Path, limits: GatewaySettings | None = None) -> Iterator[tuple[Gateway, Authority, int]]:
    ours = Authority(folder / "pki")
    with contextlib.closing(listening()) as sock:
        tls = TlsEndpoint([sock.dup()], *ours.issue("server", server=True), ours.cert, section="hl7", required=True)
        with Gateway(folder, limits, mllp=MllpEndpoint([], tls, SENDERS)) as gateway:
            yield gateway, ours, int(sock.getsockname()[1])


@contextlib.contextmanager
def over_tls(port: int, context: ssl.SSLContext) -> Iterator[Sender]:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield Sender(tls)


def test_tls_needs_a_certificate_of_ours(tmp_path: Path) -> None:
    with secured(tmp_path) as (gateway, ours, port):
        context = ssl.create_default_context(cafile=ours.cert)
        context.load_cert_chain(*ours.issue("hub"))
        with over_tls(port, context) as sender:
            assert sender.answer(oru("secret")).code == "AA"
            assert sender.answer(oru("large", padding=200_000)).code == "AA"
        nobody = ssl.create_default_context(cafile=ours.cert)
        # Of TLS 1.3 a client learns that it is refused from its first read or write.
        with contextlib.suppress(ssl.SSLError, OSError), over_tls(port, nobody) as stranger:
            stranger.send(framed(oru("stranger")))
            assert stranger.ack() is None
        eventually(lambda: gateway.closed("tls_handshake") + gateway.closed("tls_certificate") == 1)
        with Sender(port) as unencrypted:
            unencrypted.send(framed(oru("clear")))
            with contextlib.suppress(AssertionError):
                assert unencrypted.ack() is None
        assert {message.payload for message in messages(gateway.log)} == {oru("secret"), oru("large", padding=200_000)}


def test_a_handshake_that_never_comes_ends(tmp_path: Path) -> None:
    with secured(tmp_path, GatewaySettings(connect_timeout_s=0.5)) as (gateway, _, port), Sender(port) as sender:
        assert sender.ack() is None
        eventually(lambda: gateway.closed("mllp_handshake_timeout") == 1)


def test_plaintext_beyond_loopback_is_refused(tmp_path: Path) -> None:
    sock = socket.socket()
    sock.bind(("0.0.0.0", 0))
    gateway = Gateway(tmp_path, mllp=MllpEndpoint([sock], None, SENDERS))
    with pytest.raises(ConfigError, match=r"^hl7\.mllp: ") as caught, gateway:
        pass
    assert caught.value.setting == "hl7.mllp"
    gateway.socket.close()
    gateway.log.close()


# kill -9.


def test_a_kill_at_any_moment_loses_no_acknowledged_message(tmp_path: Path) -> None:
    """Senders that send on through five kills at random moments; whatever was answered AA is in the log."""
    choose = random.Random(5)
    acked: list[set[str]] = [set() for _ in range(4)]
    done = threading.Event()
    with GatewayProcess(tmp_path) as process:

        def send(number: int) -> None:
            sent = 0
            while not done.is_set():
                with contextlib.suppress(OSError), Sender(process.mllp_port) as sender:
                    while not done.is_set():
                        sent += 1
                        sender.send(framed(oru(f"{number}-{sent}")))
                        ack = sender.ack()
                        if ack is None:
                            break
                        assert (ack.code, ack.control) == ("AA", f"{number}-{sent}")
                        acked[number].add(ack.control)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(len(acked))]
        for thread in threads:
            thread.start()
        for _ in range(5):
            goal = sum(map(len, acked)) + choose.randrange(50, 150)
            eventually(lambda goal=goal: sum(map(len, acked)) >= goal, within_s=60, what="more messages")  # type: ignore[misc]
            assert process.end(signal.SIGKILL) == -signal.SIGKILL
            process.start()
        done.set()
        for thread in threads:
            thread.join(30)
        process.end(signal.SIGTERM)
    log = raw_log(tmp_path)
    stored = payloads(log)
    missing = {control for senders in acked for control in senders if oru(control) not in stored}
    log.close()
    assert sum(map(len, acked)) > 250
    assert missing == set()


def test_acknowledgements_are_parsed_as_they_are_made() -> None:
    head = head_of(oru("N1"))
    ack = acknowledgement(head, "AE", "log_not_writable", "VG1", 1_710_119_140_000_000_000)
    assert ack[:1] + ack[-2:] == VT + END
    assert parsed(ack[1:-2]).msa == ["MSA", "AE", "N1", "log_not_writable"]
    assert parsed(ack[1:-2]).msh[7] == "20240311010540+0000"
