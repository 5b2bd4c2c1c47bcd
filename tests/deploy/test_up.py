"""The supervisor: one owner, children that never outlive it, ports that stay open, an orderly end."""

import os
import select
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.deploy.conftest import Running, run_cli
from tests.support import eventually

GREETINGS = {"gateway": b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02c1", "core": b"GET /healthz HTTP/1.0\r\n\r\n"}
"""What each child answers: an MQTT 3.1.1 CONNECT (refused, for it has no password), an HTTP request."""


def test_ready_line_health_and_an_orderly_end(running: Running) -> None:
    assert running.ready["event"] == "ready"
    assert running.ready["sign_in"].startswith(running.ready["http"])
    assert running.readiness() == []
    metrics = running._client.get("/metrics").text
    for name in ("vitalgate_connections", "vitalgate_in_flight_messages", "vitalgate_log_lag_seconds",
                 "vitalgate_evaluated_to_timestamp_seconds", "vitalgate_stage_seconds", "vitalgate_auth_failures_total",
                 "vitalgate_device_to_alert_seconds"):  # fmt: skip
        assert f"# TYPE {name.removesuffix('_total')}" in metrics, name
    assert metrics.count("# TYPE vitalgate_stage_seconds ") == 1, "two processes, one page"
    children = psutil.Process(running.process.pid).children()
    assert running.stop() == 0
    assert not any(child.is_running() for child in children)


def test_a_directory_has_one_owner(running: Running) -> None:
    said = run_cli("up", "--data-dir", str(running.data), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", expect=4)
    assert "in use" in said


def test_children_end_with_a_killed_supervisor_and_the_next_start_goes_on(data: Path) -> None:
    first = Running(data)
    first.request("POST", "patients", json={"name": "Ada"})
    children = psutil.Process(first.process.pid).children()
    assert len(children) == 2
    os.kill(first.process.pid, signal.SIGKILL)
    first.stop()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)
    second = Running(data)
    try:
        assert len(second.get("patients")["items"]) == 1
    finally:
        assert second.stop() == 0


@pytest.mark.parametrize("name", ["gateway", "core"])
def test_a_killed_child_is_started_again_and_its_port_never_refuses(running: Running, name: str) -> None:
    child = running.child(name)
    assert child is not None
    port = running.port if name == "gateway" else int(running.ready["http"].rsplit(":", 1)[1])
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    with socket.create_connection((running.host, port), timeout=5) as early:
        early.sendall(GREETINGS[name])

        def answered() -> bool:
            # A connection stays in the backlog until the child takes it. The backlog holds 4096, and this makes 4000.
            socket.create_connection((running.host, port), timeout=5).close()
            return bool(select.select([early], [], [], 0)[0])

        eventually(answered, within_s=40, what="the new child answers the connection that waited for it")
        assert early.recv(1)
    running.until_ready()
    eventually(lambda: running.child(name), what="a new child")
