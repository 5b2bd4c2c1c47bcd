"""The whole pipeline through its HL7 door: MLLP in, readings out, kills under load; and its settings."""

import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy import settings
from tests.deploy.conftest import Running
from tests.gateway.certificates import Authority
from tests.gateway.mllp_client import Sender, framed, oru
from tests.support import eventually
from vitals.errors import ConfigError

SENDERS = 4
KILLS = 3
CODES = """version = 2
[[codes]]
code = "SAT"
system = "99X"
vital = "spo2"
unit = "%"
"""
"""The code map of the last sender."""
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def at(number: int) -> str:
    """A time of measurement, one second apart, with its offset."""
    return (START + timedelta(seconds=number)).strftime("%Y%m%d%H%M%S+0000")


@pytest.fixture
def ward(data: Path, tmp_path: Path) -> Iterator[Running]:
    config = tmp_path / "ward.toml"
    devices = "\n".join(
        f"[[hl7.senders]]\napplication = 'HUB{number}'\nfacility = 'WARD'\ndevice = 'hub-{number}'"
        for number in range(SENDERS)
    )
    codes = tmp_path / "codes.toml"
    codes.write_text(CODES)
    config.write_text(f"[hl7]\nmllp = '127.0.0.1:0'\n{devices}\ncode_map = '{codes}'\n")
    up = Running(data, "--config", str(config))
    yield up
    assert up.stop() == 0


def enrol(ward: Running, number: int) -> str:
    """A hub and its wearer; the patient."""
    ward.request("POST", "devices", json={"adapter": "hl7v2", "id": f"hub-{number}"})
    patient = ward.request("POST", "patients", json={"name": f"Patient {number}", "zone": "Europe/Berlin"})["patient"]
    ward.request("POST", f"devices/hub-{number}/assign", json={"patient": patient, "from": "2026-01-01T00:00:00Z"})
    return str(patient)


def mllp_port(ward: Running) -> int:
    return int(ward.ready["mllp"].rsplit(":", 1)[1])


def test_readings_corrections_and_withdrawals(ward: Running) -> None:
    patient = enrol(ward, 0)
    with Sender(mllp_port(ward)) as sender:

        def send(control: str, **parts: str) -> str:
            return sender.answer(oru(control, application="HUB0", facility="WARD", **parts)).code

        assert send("N1", value="97", time=at(0)) == send("N2", value="96", time=at(60)) == "AA"
        assert send("N1", value="97", time=at(0)) == "AA", "a retransmission"
        assert send("N3", value="95", time=at(0), status="C") == "AA"
        assert send("N4", value="96", time=at(60), status="D") == "AA"
        assert sender.answer(oru("N5", application="HUB0", facility="ELSEWHERE")).code == "AR"
        assert send("N6", value="lots", time=at(90)) == "AA", "what cannot be decoded is kept and quarantined"
        ledger = ward.settled("hub-0")
        assert ledger["messages"]["received"] == 6
        assert (ledger["messages"]["duplicate"], ledger["messages"]["quarantined"]) == (1, 1)
        assert (ledger["readings"]["stored"], ledger["readings"]["revision"]) == (2, 2)
    found = ward.get(f"patients/{patient}/readings", vital="spo2", resolution="raw")
    assert found["value"][0] == 95.0
    assert len(found["value"]) == 1, "what is withdrawn is not shown"
    assert ward.get(f"patients/{patient}/latest")["items"][0]["value"] == 95.0
    (item,) = ward.get("quarantine")["items"]
    assert (item["reason"], item["detail"]) == ("bad_value", "OBX[1]-5")


def test_a_message_that_names_another_patient_waits_and_is_told(ward: Running) -> None:
    patient = enrol(ward, 0)
    ward.request("PATCH", f"patients/{patient}", json={"mrn": "777001"})
    with Sender(mllp_port(ward)) as sender:
        now = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
        assert sender.answer(oru("N1", application="HUB0", facility="WARD", time=now)).code == "AA"
        assert ward.settled("hub-0")["readings"]["unassigned"] == 1
        (item,) = ward.get("unassigned")["items"]
        assert (item["device"], item["reason"]) == ("hub-0", "other_patient")
        eventually(lambda: ward.get("alerts")["items"], within_s=30, what="the alert")
        (alert,) = ward.get("alerts")["items"]
        assert (alert["rule"], alert["patient"]) == ("review:other_patient:hub-0", "")
        assert "names another patient" in alert["text"]
        assert "0017" not in str(alert)
        assert ward.get(f"alerts/{alert['id']}/explanation")["rule"]["words"] == alert["text"]
        ward.request("PATCH", f"patients/{patient}", json={"mrn": "pt 0017"})
        assert sender.answer(oru("N2", application="HUB0", facility="WARD", time=at(60))).code == "AA"
        assert ward.settled("hub-0")["readings"]["stored"] == 1


def test_an_alarm_of_a_monitor_is_an_alert_until_a_person_acknowledges_it(ward: Running) -> None:
    patient = enrol(ward, 0)

    def told(phase: str) -> bytes:
        now = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
        lines = [
            f"MSH|^~\\&|HUB0|WARD|RPM|SITE|{now}||ORU^R40^ORU_R40|{phase}|P|2.6|||AL|NE", "PID|1||PT-0017||Doe^Jane",
            f"OBR|1|al_01|al_01|196616^MDC_EVT_ALARM^MDC|||{now}",
            f"OBX|1|ST|196670^MDC_EVT_LO_VAL^MDC|1.3.1.150456.1|Doe: low|||L~PH~SP|||R|||{now}",
            "OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1.150456.2|84|262688^MDC_DIM_PERCENT^MDC|||||R",
            f"OBX|3|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.3.1.150456.3|{phase}||||||R",
        ]  # fmt: skip
        return "".join(line + "\r" for line in lines).encode()

    with Sender(mllp_port(ward)) as sender:
        assert sender.answer(told("start")).code == "CA"
        eventually(lambda: ward.get("alerts")["items"], within_s=30, what="the alert")
        (alert,) = ward.get("alerts")["items"]
        assert (alert["rule"], alert["patient"], alert["severity"]) == ("monitor:spo2", patient, "S1")
        assert alert["text"] == "The monitor alarms: Oxygen saturation 84 %, lo val (code 196670), high priority"
        explained = ward.get(f"alerts/{alert['id']}/explanation")
        assert explained["rule"]["words"] == alert["text"]
        assert explained["resolves"] == "the monitor says that it is over"
        assert sender.answer(told("end")).code == "CA"
        returned = [{"state": "rtn_unack", "id": alert["id"]}]
        eventually(
            lambda: [{"state": one["state"], "id": one["id"]} for one in ward.get("alerts")["items"]] == returned,
            within_s=30, what="the end of the alarm",
        )  # fmt: skip
        assert ward.settled("hub-0")["messages"]["decoded"] == 2


def test_the_code_map_of_a_sender_gives_its_local_codes_a_meaning(ward: Running) -> None:
    patients = [enrol(ward, number) for number in (0, SENDERS - 1)]
    with Sender(mllp_port(ward)) as sender:
        for number in (0, SENDERS - 1):
            local = oru("N1", application=f"HUB{number}", facility="WARD", value="93", time=at(0))
            local = local.replace(b"150456^MDC_PULS_OXIM_SAT_O2^MDC", b"SAT^^99X")
            assert sender.answer(local).code == "AA"
    ledgers = [ward.settled(f"hub-{number}")["readings"] for number in (0, SENDERS - 1)]
    assert [ledger["stored"] for ledger in ledgers] == [0, 1]
    (latest,) = ward.get(f"patients/{patients[1]}/latest")["items"]
    assert (latest["vital"], latest["value"]) == ("spo2", 93.0)
    (unknown,) = ward.get("unknown-codes")["items"]
    assert (unknown["device"], unknown["kind"], unknown["samples"]) == ("hub-0", "unknown_code", [93.0])
    assert not ward.get("quarantine")["items"]


def test_nothing_answered_aa_is_lost_or_doubled_by_kill_9(ward: Running) -> None:
    choose = random.Random(41)
    patients = [enrol(ward, number) for number in range(SENDERS)]
    acked: list[set[int]] = [set() for _ in patients]
    done = threading.Event()

    def send(number: int) -> None:
        sent = 0
        while not done.is_set():
            with contextlib.suppress(OSError), Sender(mllp_port(ward)) as sender:
                while not done.is_set():
                    # What was not answered is sent again: the same message, the same number.
                    parts = {"application": f"HUB{number}", "facility": "WARD", "time": at(sent)}
                    sender.send(framed(oru(f"{number}-{sent}", **parts)))
                    ack = sender.ack()
                    if ack is None:
                        break
                    assert (ack.code, ack.control) == ("AA", f"{number}-{sent}")
                    acked[number].add(sent)
                    sent += 1

    threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            goal = sum(map(len, acked)) + choose.randrange(50, 200)
            eventually(lambda goal=goal: sum(map(len, acked)) >= goal, within_s=60, what="messages")  # type: ignore[misc]
            for victim in choose.choice((["gateway"], ["gateway", "core"])):
                ward.kill(victim)
        ward.until_ready()
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    for number, patient in enumerate(patients):
        ledger = ward.settled(f"hub-{number}")
        assert acked[number]
        found = ward.get(f"patients/{patient}/readings", vital="spo2", resolution="raw", max_points=100_000)
        times = [datetime.fromisoformat(text) for text in found["time"]]
        stored = {round((time - START).total_seconds()) for time in times}
        assert acked[number] - stored == set(), "acknowledged and lost"
        assert len(times) == len(stored) == ledger["readings"]["stored"], "stored twice"
        assert ledger["messages"]["quarantined"] == ledger["readings"]["unassigned"] == 0


def test_tls_beyond_loopback(data: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    cert, key = authority.issue("server", server=True)
    config = tmp_path / "ward.toml"
    config.write_text(
        f"[hl7]\ntls_listen = '0.0.0.0:0'\ntls_cert = '{cert}'\ntls_key = '{key}'\n"
        f"tls_client_ca = '{authority.cert}'\ndefault_device = 'hub-0'\n"
    )
    up = Running(data, "--config", str(config))
    try:
        enrol(up, 0)
        context = ssl.create_default_context(cafile=authority.cert)
        context.load_cert_chain(*authority.issue("hub"))
        port = int(up.ready["mllps"].rsplit(":", 1)[1])
        assert "mllp" not in up.ready
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            assert Sender(tls).answer(oru("N1", time=at(0))).code == "AA"
        assert up.settled("hub-0")["readings"]["stored"] == 1
    finally:
        assert up.stop() == 0


ON = "[hl7]\nmllp = '127.0.0.1:0'\n"
TLS = "[hl7]\ntls_listen = '0.0.0.0:0'\ndefault_device = 'd'\n"
ONE = "[[hl7.senders]]\napplication = 'A'\ndevice = 'd'\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (ON, "hl7.senders: or hl7.default_device is needed"),
        ("[hl7]\nmllp = 'nowhere'\n", "hl7.mllp"),
        ("[hl7]\nmlpp = '127.0.0.1:0'\n", "hl7.mlpp: unknown setting, did you mean mllp?"),
        (ON + "default_device = 'a device'\n", "hl7.default_device"),
        (ON + ONE + ONE, "hl7.senders: two are for the same application and facility"),
        (ON + "[[hl7.senders]]\napplication = 'A'\n", "hl7.senders.0.device"),
        (ON + "[[hl7.senders]]\napplication = ''\ndevice = 'd'\n", "hl7.senders.0.application"),
        (ON + ONE + "facilty = 'B'\n", "hl7.senders.0.facilty"),
        (ON + "senders = 1\n", "hl7.senders"),
        (ON + ONE + "code_map = '/nowhere.toml'\n", "hl7.senders.0.code_map: /nowhere.toml: cannot be read"),
        (ON + ONE + "code_map = '{path}'\n", "hl7.senders.0.code_map: {path}: code_map.hl7: unknown"),
        (TLS, "hl7.tls_cert: is needed for hl7.tls_listen"),
        (TLS + "tls_cert = 'a'\ntls_key = 'b'\n", "hl7.tls_client_ca: is needed for hl7.tls_listen"),
        (TLS + "tls_cert = '/a'\ntls_key = '/b'\ntls_client_ca = '/c'\n", "hl7.tls_cert: /a with /b"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "ward.toml"
    path.write_text(text.replace("{path}", str(path)))
    with pytest.raises(ConfigError) as caught:
        settings.load(path)
    assert str(caught.value).startswith(named.replace("{path}", str(path)))


def test_code_maps_are_of_devices(tmp_path: Path) -> None:
    path, codes = tmp_path / "ward.toml", tmp_path / "codes.toml"
    codes.write_text(CODES)
    second = ONE.replace("'A'", "'B'")
    path.write_text(ON + ONE + f"code_map = '{codes}'\n" + second.replace("'d'", "'e'"))
    assert settings.load(path).hl7.code_maps() == {"d": CODES}
    path.write_text(ON + ONE + f"code_map = '{codes}'\n" + second)
    with pytest.raises(ConfigError, match="another than that of a sender of the same device"):
        settings.load(path)


def test_senders_by_application_and_facility(tmp_path: Path) -> None:
    path = tmp_path / "ward.toml"
    path.write_text(ON + "default_device = 'rest'\n" + ONE + ONE.replace("'d'", "'e'") + "facility = 'B'\n")
    endpoint = settings.load(path).hl7.endpoint()
    assert endpoint is not None
    assert endpoint.senders == {("A", ""): "d", ("A", "B"): "e"}
    assert endpoint.default_device == "rest"
    assert settings.load(None).hl7.endpoint() is None
