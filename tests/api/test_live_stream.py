"""The live stream as a browser's EventSource reads it."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from dashboard_api.live import StreamHub, Subscriber
from tests.api.api_world import START_NS, Api, World, limit, readings
from tests.support import SECOND, eventually
from vitals.canary import CANARY_PATIENT
from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Tick, concatenate


class Event(NamedTuple):
    """One server-sent event; ``ident`` is the id it carried itself."""

    name: str
    data: Any
    ident: int | None


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.ended = threading.Event()
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self.response.iter_lines():
                if line.startswith(":"):
                    self.comments.append(line[1:].strip())
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    ident = int(fields["id"]) if "id" in fields else None
                    self.events.append(Event(fields["event"], json.loads(fields["data"]), ident))
                    fields = {}
                else:
                    fields = {}
        except (httpx.HTTPError, httpx.StreamError):
            pass
        finally:
            self.ended.set()

    def named(self, name: str) -> list[Any]:
        return [event.data for event in self.events if event.name == name]

    def wait(self, name: str, count: int = 1) -> list[Any]:
        eventually(lambda: len(self.named(name)) >= count, what=f"{count} {name} events")
        return self.named(name)


@contextmanager
def listen(api: Api, after: int | None = None, path: str = "/stream", **params: Any) -> Iterator[Listener]:
    headers = api.headers | ({} if after is None else {"Last-Event-ID": str(after)})
    url = str(api.client.base_url) + f"/api/v1{path}"
    with (
        httpx.Client(timeout=httpx.Timeout(30.0)) as client,
        client.stream("GET", url, headers=headers, params=params) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        listener = Listener(response)
        eventually(lambda: listener.comments, what="the first bytes")
        yield listener


@pytest.fixture
def viewer(world: World) -> Api:
    return world.api("viewer")


def connected(world: World, count: int = 1) -> None:
    hub: StreamHub = world.app.state.hub
    eventually(lambda: hub.clients() == count, what="the client in the hub")


def test_the_canary_is_not_heard(world: World, viewer: Api) -> None:
    patient, _ = world.worn()
    world.registry.add_patient(token=CANARY_PATIENT)
    world.limits(CANARY_PATIENT, limit())
    with listen(viewer) as stream:
        connected(world)
        world.append(concatenate([readings(CANARY_PATIENT, [84.0]), readings(patient, [97.0])]))
        world.read(CANARY_PATIENT, 99.0, start_s=1)
        tick_at = world.tick(5)
        stream.wait("tick")
    assert [event.name for event in stream.events] == ["reading", "tick"]
    assert stream.events[0].data["patient"] == patient
    assert len(world.book.alerts(patient=CANARY_PATIENT)) == 1, "it was evaluated"
    after = world.tick(6)
    with listen(viewer, after=0) as resumed:
        resumed.wait("tick", 2)
    assert [event.ident for event in resumed.events if event.name == "tick"] == [tick_at, after]
    assert {event.data.get("patient") for event in resumed.events} == {patient, None}


def test_readings_alerts_devices_and_ticks(world: World, viewer: Api) -> None:
    patient, device = world.worn()
    world.limits(patient, limit())
    with listen(viewer) as stream:
        connected(world)
        reading_at = world.read(patient, 84.0, device=device)
        event_at = world.happened(DeviceEvent(device, EventKind.BATTERY, START_NS, "low", 9.0))
        tick_at = world.tick(5)
        stream.wait("tick")
    alert, reading, happened, tick = stream.events
    assert [event.name for event in stream.events] == ["alert", "reading", "device", "tick"]
    assert [event.ident for event in stream.events] == [None, reading_at, event_at, tick_at]
    assert reading.data["patient"] == patient
    assert (reading.data["vital"], reading.data["value"], reading.data["time"]) == (
        "spo2",
        84.0,
        "2023-11-14T22:13:20Z",
    )
    assert happened.data == {
        "device": device, "kind": "battery", "time": "2023-11-14T22:13:20Z", "detail": "low", "value": 9.0,
        "vital": None,
    }  # fmt: skip
    assert tick.data == {"evaluated_to": "2023-11-14T22:13:25Z"}
    known = viewer.get("/alerts", patient=patient)["items"][0]
    event = alert.data.pop("event")
    assert alert.data == known
    assert event["kind"] == "raised"


def test_an_alert_is_shown_as_each_event_left_it(world: World, viewer: Api) -> None:
    ident = world.alert(world.worn()[0])
    before = world.log.end()
    clinician = world.api("clinician")
    clinician.post(f"/alerts/{ident}/acknowledge")
    clinician.post(f"/alerts/{ident}/resolve")
    with listen(viewer, before) as stream:
        acknowledged, resolved = stream.wait("alert", 2)
    assert (acknowledged["state"], resolved["state"]) == ("active_ack", "resolved")
    assert acknowledged["values"][0]["value"] == 80.0
    assert acknowledged["owner"].startswith("clinician:")


def test_a_new_client_starts_now(world: World, viewer: Api) -> None:
    world.evaluated(world.tick(1))
    with listen(viewer) as stream:
        connected(world)
        eventually(lambda: world.app.state.hub._position == world.log.end())
        world.append(readings(None, [84.0]))
        world.tick(2)
        stream.wait("tick")
    assert stream.named("reading") == []
    assert stream.named("tick") == [{"evaluated_to": "2023-11-14T22:13:22Z"}]


class TestResume:
    def test_from_memory_and_from_the_log_alike(self, world: World, viewer: Api) -> None:
        patient, device = world.worn()
        world.limits(patient, limit())
        for number in range(8):
            world.read(patient, 97.0 - number, 84.0, start_s=number * 600.0, device=device)
            world.happened(DeviceEvent(device, EventKind.ONLINE, START_NS), DeviceEvent(device, EventKind.OFFLINE, 7))
            world.tick(number)
        world.evaluated()
        viewer.get(f"/patients/{patient}/latest")
        hub: StreamHub = world.app.state.hub
        eventually(lambda: hub._position == world.log.end(), what="the hub")
        with listen(viewer, 0) as stream:
            stream.wait("tick", 8)
        whole = stream.events
        assert len(stream.named("reading")) == 16
        assert len(stream.named("device")) == 16
        assert stream.named("alert")

        hub._ring_events = 3
        world.evaluated(world.tick(99))
        eventually(lambda: len(hub._ring) <= 3, what="a short ring")
        with listen(viewer, 0) as stream:
            stream.wait("tick", 9)
        assert stream.events[:-1] == whole

    def test_every_position_is_complete_and_only_its_last_event_has_the_id(self, world: World, viewer: Api) -> None:
        patient, _ = world.worn()
        positions = [world.read(patient, 97.0, 96.0, 95.0), world.tick(1)]
        world.evaluated()
        with listen(viewer, 0) as stream:
            stream.wait("tick")
        assert [event.ident for event in stream.events] == [None, None, positions[0], positions[1]]
        with listen(viewer, positions[0]) as stream:
            stream.wait("tick")
        assert [event.ident for event in stream.events] == [positions[1]]

    def test_no_event_is_lost_or_doubled_however_often_the_client_comes_back(self, world: World, viewer: Api) -> None:
        patient, _ = world.worn()
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                world.read(patient, 97.0, 96.0, start_s=number * 10.0, step_s=1.0, source_time_ns=number)
                number += 1
                stop.wait(0.002)

        writer = threading.Thread(target=work)
        writer.start()
        seen: list[tuple[str, int]] = []
        last = 0
        try:
            for _ in range(6):
                with listen(viewer, last) as stream:
                    stream.wait("reading", 20)
                # What came without an id yet is sent again with its position.
                whole = [event.ident for event in stream.events]
                keep = max(place for place, ident in enumerate(whole) if ident is not None) + 1
                seen += [(event.data["time"], event.data["seq"]) for event in stream.events[:keep]]
                last = max(ident for ident in whole if ident is not None)
        finally:
            stop.set()
            writer.join()
        expected = [(f"{number}", seq) for number in range(len(seen) // 2) for seq in (0, 1)]
        assert len(seen) == len(set(seen)) == len(expected)
        assert seen == sorted(seen)
        assert [seq for _, seq in seen] == [seq for _, seq in expected]

    @pytest.mark.parametrize("after", ["x", "-1", "1.5", "٣", "9" * 30])
    def test_an_id_that_is_no_position(self, viewer: Api, after: str) -> None:
        headers = {"Last-Event-ID": after.encode()}
        problem = viewer.refused("GET", "/stream", 422, "Last-Event-ID", headers=headers)
        assert after not in problem["detail"]

    def test_an_id_from_another_data_directory_starts_now(self, world: World, viewer: Api) -> None:
        with listen(viewer, 10**15) as stream:
            connected(world)
            world.tick(1)
            stream.wait("tick")

    def test_an_entry_that_cannot_be_read_is_left_out(self, world: World, viewer: Api) -> None:
        world.stop_engine()
        world.log.append([("vitals", b"VGgarbage")])
        world.book.apply([], [], expected=world.book.position(), position=world.tick(1))
        with listen(viewer, 0) as stream:
            assert stream.wait("tick") == [{"evaluated_to": "2023-11-14T22:13:21Z"}]


def test_a_stream_of_some_patients(world: World, viewer: Api) -> None:
    first, second = world.worn()[0], world.worn()[0]
    for patient in (first, second):
        world.limits(patient, limit())
    with listen(viewer, patient=[first]) as stream, listen(viewer, patient=[first, second]) as both:
        connected(world, 2)
        for patient in (second, first):
            world.read(patient, 84.0)
        world.append(readings(None, [84.0]))
        world.happened(DeviceEvent("d1", EventKind.ONLINE, START_NS))
        world.tick(1)
        stream.wait("tick")
        both.wait("tick")
    assert {reading["patient"] for reading in stream.named("reading")} == {first}
    assert {alert["patient"] for alert in stream.named("alert")} == {first}
    assert len(both.named("reading")) == 2
    assert stream.named("device") == both.named("device") == []
    viewer.refused("GET", "/stream", 422, "patients", params={"patients": first})


class TestEnds:
    def test_silence_is_broken_by_a_heartbeat(self, world: World, viewer: Api) -> None:
        world.app.state.hub._heartbeat_s = 0.05
        with listen(viewer) as stream:
            eventually(lambda: stream.comments.count("heartbeat") >= 2, what="two heartbeats")
        eventually(lambda: world.app.state.hub.clients() == 0, what="the client to be forgotten")

    def test_a_revoked_token_ends_its_stream(self, world: World) -> None:
        world.app.state.hub._heartbeat_s = 0.05
        token = world.auth.create("viewer")
        with listen(Api(world.client(), token)) as stream:
            world.auth.revoke(token)
            assert stream.ended.wait(10.0)

    def test_closing_the_hub_ends_every_stream(self, world: World, viewer: Api) -> None:
        with listen(viewer) as stream:
            connected(world)
            world.app.state.hub.close()
            assert stream.ended.wait(10.0)

    def test_a_slow_client_is_dropped_and_loses_nothing(self, world: World, viewer: Api) -> None:
        hub: StreamHub = world.app.state.hub
        hub._queue_groups = 2
        patient, _ = world.worn()
        viewer.get("/system")
        values = [97.0] * 2_000
        with (
            httpx.Client(timeout=30.0) as client,
            client.stream("GET", str(viewer.client.base_url) + "/api/v1/stream", headers=viewer.headers) as response,
        ):
            connected(world)
            # Nobody reads: the sockets fill, then the queue, then the client is dropped.
            wrote = 0
            while hub.clients():
                wrote = world.read(patient, *values, step_s=1.0)
                world.evaluated()
                assert wrote < 200
            slow = Listener(response)
            assert slow.ended.wait(30.0)
        assert slow.comments[-1] == "too slow, resume with Last-Event-ID"
        last = max(event.ident for event in slow.events if event.ident is not None)
        assert len(slow.events) % len(values) == 0
        assert last < wrote
        hub._queue_groups = 512
        with listen(viewer, last) as stream:
            eventually(lambda: stream.events and stream.events[-1].ident == wrote, within_s=20.0, what="the rest")
        assert len(slow.events) + len(stream.events) == len(values) * wrote

    def test_a_client_whose_server_is_gone_is_told_nothing(self) -> None:
        async def make() -> Subscriber:
            return Subscriber(frozenset(), 1)

        subscriber = asyncio.run(make())
        assert not subscriber.send(b"x")
        subscriber.end()


def test_the_hub_goes_on_when_the_book_fails_for_a_while(world: World, viewer: Api) -> None:
    hub: StreamHub = world.app.state.hub
    book = hub._book
    failures = []

    class Failing:
        def wait(self, position: int, timeout_s: float) -> bool:
            failures.append(position)
            raise RuntimeError("away")

    with listen(viewer) as stream:
        connected(world)
        hub._book = Failing()  # type: ignore[assignment]
        eventually(lambda: failures, what="a failure")
        hub._book = book
        world.append(Tick(START_NS + SECOND))
        assert stream.wait("tick")
