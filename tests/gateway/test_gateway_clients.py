"""Real client libraries and programs, both versions, every QoS: what they were told is stored is in the log once."""

import asyncio
import subprocess
import threading
from collections.abc import Iterator

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.gateway.harness import Gateway, messages, payloads
from tests.support import eventually

COUNT = 300


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


versions = pytest.mark.parametrize("version", [4, 5])
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


@versions
@every_qos
def test_paho(gateway: Gateway, version: int, qos: int) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, f"paho{version}{qos}", protocol=paho.MQTTv311 if version == 4 else paho.MQTTv5
    )
    client.username_pw_set("d1", "secret-d1")
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", gateway.port)
    client.loop_start()
    eventually(client.is_connected)
    client.subscribe("commands/d1", 1)
    assert subscribed.wait(5)
    sent = [f"paho {version} {qos} {number}".encode() for number in range(COUNT)]
    for info in [client.publish("vitals/d1/json/k", payload, qos) for payload in sent]:
        info.wait_for_publish(10)
        assert info.is_published()
    client.disconnect()
    client.loop_stop()
    _all_once(gateway, sent, qos)


@versions
@every_qos
def test_aiomqtt(gateway: Gateway, version: int, qos: int) -> None:
    sent = [f"aiomqtt {version} {qos} {number}".encode() for number in range(COUNT)]

    async def publish() -> None:
        async with aiomqtt.Client(
            "127.0.0.1",
            gateway.port,
            username="d2",
            password="secret-d2",
            identifier=f"aiomqtt{version}{qos}",
            protocol=aiomqtt.ProtocolVersion.V311 if version == 4 else aiomqtt.ProtocolVersion.V5,
            max_concurrent_outgoing_calls=COUNT,
        ) as client:
            await asyncio.gather(*(client.publish("vitals/d2/json", payload, qos) for payload in sent))

    asyncio.run(publish())
    _all_once(gateway, sent, qos)


@pytest.mark.servers
@versions
@every_qos
def test_mosquitto_pub(gateway: Gateway, version: int, qos: int) -> None:
    sent = [f"mosquitto_pub {version} {qos} {number}".encode() for number in range(COUNT)]
    command = [
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(gateway.port), "-u", "d3", "-P", "secret-d3", "-i",
        f"mosquitto{version}{qos}", "-V", "mqttv311" if version == 4 else "mqttv5", "-q", str(qos), "-t",
        "vitals/d3/json", "-l",
    ]  # fmt: skip
    done = subprocess.run(command, input=b"\n".join(sent) + b"\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    _all_once(gateway, sent, qos)


@pytest.mark.servers
def test_mosquitto_pub_is_told_that_its_secret_is_wrong(gateway: Gateway) -> None:
    command = ["mosquitto_pub", "-p", str(gateway.port), "-u", "d3", "-P", "no", "-t", "vitals/d3/json", "-m", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 5
    assert "not authorised" in done.stderr


def _all_once(gateway: Gateway, sent: list[bytes], qos: int) -> None:
    wanted = set(sent)
    if qos == 0:
        eventually(lambda: wanted <= payloads(gateway.log).keys())
    found = [message for message in messages(gateway.log) if message.payload in wanted]
    assert [message.payload for message in found] == sent, "each once and in the order sent"
    assert not any(message.dup or message.resend_of >= 0 for message in found)
