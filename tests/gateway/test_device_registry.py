"""The registry: identities of devices, their secrets, and who wore what when."""

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import SECOND, FakeClock
from vitals.errors import BackendError, InvalidRequest, NotFound
from vitals.ports import Registry
from vitals.records import Assignment
from vitals.registry.cache import Interval, declared, in_force
from vitals.registry.sql import SqlRegistry


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(tmp_path: Path, clock: FakeClock) -> Iterator[SqlRegistry]:
    opened = SqlRegistry(tmp_path / "registry.db", clock)
    yield opened
    opened.close()


def worn(registry: SqlRegistry) -> tuple[str, str]:
    """A device and a patient."""
    return registry.enrol("json")[0].id, registry.add_patient().id


def test_implements_the_port(registry: SqlRegistry) -> None:
    port: Registry = registry
    assert port.devices() == []


class TestCredentials:
    def test_only_the_devices_own_secret_is_accepted(self, registry: SqlRegistry) -> None:
        device, secret = registry.enrol("json")
        _, other = registry.enrol("json")
        assert registry.authenticate(device.id, secret.encode())
        assert not registry.authenticate(device.id, other.encode())
        assert not registry.authenticate(device.id, b"")
        assert not registry.authenticate("nobody", secret.encode())
        assert not registry.authenticate("", secret.encode())

    def test_a_secret_has_256_bits_and_is_not_in_the_file(self, registry: SqlRegistry, tmp_path: Path) -> None:
        _, secret = registry.enrol("json")
        assert len(secret) == 43
        registry.close()
        stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert secret.encode() not in stored

    def test_equal_secrets_would_have_different_hashes(self, registry: SqlRegistry, tmp_path: Path) -> None:
        registry.enrol("json")
        registry.enrol("json")
        with sqlite3.connect(tmp_path / "registry.db") as plain:
            salts = {row[0] for row in plain.execute("SELECT salt FROM devices")}
        plain.close()
        assert len(salts) == 2

    def test_rotation_ends_the_old_secret(self, registry: SqlRegistry) -> None:
        device, old = registry.enrol("json")
        new = registry.rotate(device.id)
        assert registry.authenticate(device.id, new.encode())
        assert not registry.authenticate(device.id, old.encode())

    def test_rotation_with_an_overlap_ends_the_old_secret_when_it_is_over(
        self, registry: SqlRegistry, clock: FakeClock
    ) -> None:
        device, old = registry.enrol("json")
        granted = registry.grant(device.id, 600)
        new = registry.rotate(device.id, overlap_s=60)
        assert not registry.authenticate(device.id, granted.encode())
        assert registry.authenticate(device.id, old.encode())
        assert registry.authenticate(device.id, new.encode())
        clock.advance(61)
        assert not registry.authenticate(device.id, old.encode())
        assert registry.authenticate(device.id, new.encode())

    def test_only_the_last_secret_overlaps(self, registry: SqlRegistry) -> None:
        device, first = registry.enrol("json")
        second = registry.rotate(device.id, overlap_s=60)
        third = registry.rotate(device.id, overlap_s=60)
        accepted = [registry.authenticate(device.id, secret.encode()) for secret in (first, second, third)]
        assert accepted == [False, True, True]
        registry.rotate(device.id)
        assert not registry.authenticate(device.id, third.encode())

    @pytest.mark.parametrize("overlap_s", [-1, 86_401])
    def test_overlaps_are_up_to_a_day(self, registry: SqlRegistry, overlap_s: int) -> None:
        device, secret = registry.enrol("json")
        with pytest.raises(InvalidRequest, match="overlap_s"):
            registry.rotate(device.id, overlap_s=overlap_s)
        assert registry.authenticate(device.id, secret.encode())

    def test_revoked_device_is_refused_and_stays_so_after_rotation(
        self, registry: SqlRegistry, clock: FakeClock
    ) -> None:
        device, secret = registry.enrol("json")
        revoked = registry.revoke(device.id)
        assert revoked.revoked_ns == clock.now_ns()
        assert not registry.authenticate(device.id, secret.encode())
        clock.advance(60)
        assert registry.revoke(device.id).revoked_ns == revoked.revoked_ns
        assert not registry.authenticate(device.id, registry.rotate(device.id).encode())

    @pytest.mark.parametrize("call", ["rotate", "revoke", "device"])
    def test_unknown_device(self, registry: SqlRegistry, call: str) -> None:
        with pytest.raises(NotFound) as caught:
            getattr(registry, call)("nobody")
        assert (caught.value.kind, caught.value.ident) == ("device", "nobody")


class TestEnrolment:
    def test_record(self, registry: SqlRegistry, clock: FakeClock) -> None:
        hub, _ = registry.enrol("medtech", device="hub:1", hub=True)
        device, _ = registry.enrol(
            "gatt", device="A.b_c-9", parent="hub:1", zone="Europe/Vienna", settings={"clock": "wall"}
        )
        assert registry.devices() == [hub, device]
        assert device.parent == "hub:1"
        assert device.zone == "Europe/Vienna"
        assert device.settings == {"clock": "wall"}
        assert device.created_ns == clock.now_ns()
        assert device.revoked_ns is None
        assert hub.hub
        assert not device.hub

    def test_generated_ids_fit_a_topic(self, registry: SqlRegistry) -> None:
        ids = {registry.enrol("json")[0].id for _ in range(5)}
        assert len(ids) == 5
        assert all(ident.startswith("d_") and ident.removeprefix("d_").isalnum() for ident in ids)

    @pytest.mark.parametrize("ident", ["", "a/b", "a+", "#", "ä", "a b", "a\n", "x" * 65, "vitalgate:news2"])
    def test_ids_that_do_not_fit_a_topic(self, registry: SqlRegistry, ident: str) -> None:
        before = registry.version()
        with pytest.raises(InvalidRequest) as caught:
            registry.enrol("json", device=ident)
        assert caught.value.field == "id"
        assert registry.version() == before

    def test_a_taken_id_keeps_its_device_and_secret(self, registry: SqlRegistry) -> None:
        _, secret = registry.enrol("json", device="one")
        with pytest.raises(InvalidRequest) as caught:
            registry.enrol("gatt", device="one")
        assert caught.value.field == "id"
        assert registry.device("one").adapter == "json"
        assert registry.authenticate("one", secret.encode())

    def test_parent_must_be_a_known_hub(self, registry: SqlRegistry) -> None:
        registry.enrol("json", device="plain")
        for parent in ("plain", "nobody"):
            with pytest.raises(InvalidRequest) as caught:
                registry.enrol("json", parent=parent)
            assert caught.value.field == "parent"
        assert [device.id for device in registry.devices()] == ["plain"]

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "\0"])
    def test_zones_are_iana_zones(self, registry: SqlRegistry, zone: str) -> None:
        device, patient = worn(registry)
        calls = (
            lambda: registry.enrol("json", zone=zone),
            lambda: registry.add_patient(zone=zone),
            lambda: registry.update_patient(patient, zone=zone),
            lambda: registry.assign(device, patient, from_ns=None, to_ns=None, zone=zone),
        )
        for call in calls:
            with pytest.raises(InvalidRequest) as caught:
                call()
            assert caught.value.field == "zone"


class TestPatients:
    def test_tokens_are_random_and_listed_by_creation(self, registry: SqlRegistry, clock: FakeClock) -> None:
        first = registry.add_patient(zone="Europe/Berlin", condition="copd")
        clock.advance(1)
        second = registry.add_patient()
        assert first.id.startswith("p_")
        assert len(first.id) >= 18
        assert registry.patients() == [first, second]
        assert (first.zone, first.condition, first.status) == ("Europe/Berlin", "copd", "active")
        assert second.created_ns == clock.now_ns()

    def test_update_changes_what_is_given(self, registry: SqlRegistry) -> None:
        patient = registry.add_patient(zone="Europe/Berlin", condition="copd").id
        assert registry.update_patient(patient).condition == "copd"
        assert registry.update_patient(patient, condition="chf").zone == "Europe/Berlin"
        assert registry.update_patient(patient, zone="Asia/Tokyo").condition == "chf"
        assert registry.patient(patient).zone == "Asia/Tokyo"

    @pytest.mark.parametrize("condition", ["", "x" * 65])
    def test_condition_is_a_word(self, registry: SqlRegistry, condition: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            registry.add_patient(condition=condition)
        assert caught.value.field == "condition"

    def test_unknown_patient(self, registry: SqlRegistry) -> None:
        device, _ = worn(registry)
        calls = (
            lambda: registry.patient("p_x"),
            lambda: registry.update_patient("p_x", condition="copd"),
            lambda: registry.set_status("p_x", "paused", 0),
            lambda: registry.statuses("p_x"),
            lambda: registry.assign(device, "p_x", from_ns=None, to_ns=None),
        )
        for call in calls:
            with pytest.raises(NotFound) as caught:
                call()
            assert caught.value.kind == "patient"

    def test_status_holds_from_a_time_on(self, registry: SqlRegistry, clock: FakeClock) -> None:
        patient = registry.add_patient().id
        start = clock.now_ns()
        assert registry.set_status(patient, "paused", start + 10 * SECOND).status == "active"
        clock.advance(10)
        assert registry.patient(patient).status == "paused"
        assert registry.patients()[0].status == "paused"
        assert registry.set_status(patient, "discharged", start + 5 * SECOND).status == "discharged"
        assert registry.statuses(patient) == [
            Interval("active", start, start + 5 * SECOND),
            Interval("discharged", start + 5 * SECOND, None),
        ]

    def test_unknown_status(self, registry: SqlRegistry) -> None:
        patient = registry.add_patient().id
        with pytest.raises(InvalidRequest) as caught:
            registry.set_status(patient, "asleep", 0)
        assert caught.value.field == "status"


class TestAssignments:
    def test_a_new_wearer_ends_the_open_assignment(self, registry: SqlRegistry) -> None:
        device, first = worn(registry)
        second = registry.add_patient().id
        assert registry.assign(device, first, from_ns=None, to_ns=None) == Assignment(device, first)
        registry.assign(device, second, from_ns=100, to_ns=None)
        assert registry.assignments(device=device) == [
            Assignment(device, first, None, 100),
            Assignment(device, second, 100, None),
        ]
        assert registry.assignments(patient=first) == [Assignment(device, first, None, 100)]
        assert registry.assignments(device=device, patient=second) == [Assignment(device, second, 100, None)]
        assert registry.assignments(device="nobody") == []

    def test_half_open_intervals_may_touch(self, registry: SqlRegistry) -> None:
        device, first = worn(registry)
        registry.assign(device, first, from_ns=100, to_ns=200)
        registry.assign(device, first, from_ns=200, to_ns=300)
        registry.assign(device, first, from_ns=None, to_ns=100)
        assert [(one.from_ns, one.to_ns) for one in registry.assignments()] == [(None, 100), (100, 200), (200, 300)]

    @pytest.mark.parametrize(
        ("from_ns", "to_ns"), [(None, None), (None, 101), (150, 160), (199, None), (100, 200), (50, 150), (0, 400)]
    )
    def test_overlap_is_refused_and_changes_nothing(
        self, registry: SqlRegistry, from_ns: int | None, to_ns: int | None
    ) -> None:
        device, patient = worn(registry)
        registry.assign(device, patient, from_ns=100, to_ns=200)
        before = registry.assignments()
        with pytest.raises(InvalidRequest) as caught:
            registry.assign(device, patient, from_ns=from_ns, to_ns=to_ns)
        assert caught.value.field == "from"
        assert registry.assignments() == before

    def test_an_open_assignment_is_not_ended_before_it_begins(self, registry: SqlRegistry) -> None:
        device, patient = worn(registry)
        registry.assign(device, patient, from_ns=100, to_ns=None)
        for from_ns in (None, 50, 100):
            with pytest.raises(InvalidRequest):
                registry.assign(device, patient, from_ns=from_ns, to_ns=None)
        registry.assign(device, patient, from_ns=None, to_ns=100)
        assert registry.assignments()[-1] == Assignment(device, patient, 100, None)

    def test_a_refused_assignment_leaves_the_open_one_open(self, registry: SqlRegistry) -> None:
        device, patient = worn(registry)
        registry.assign(device, patient, from_ns=0, to_ns=50)
        registry.assign(device, patient, from_ns=100, to_ns=None)
        with pytest.raises(InvalidRequest):
            registry.assign(device, patient, from_ns=20, to_ns=70)
        assert registry.assignments()[-1].to_ns is None

    def test_empty_interval(self, registry: SqlRegistry) -> None:
        device, patient = worn(registry)
        with pytest.raises(InvalidRequest) as caught:
            registry.assign(device, patient, from_ns=100, to_ns=100)
        assert caught.value.field == "to"

    def test_unknown_device(self, registry: SqlRegistry) -> None:
        _, patient = worn(registry)
        with pytest.raises(NotFound) as caught:
            registry.assign("nobody", patient, from_ns=None, to_ns=None)
        assert caught.value.kind == "device"

    def test_devices_have_intervals_of_their_own(self, registry: SqlRegistry) -> None:
        device, patient = worn(registry)
        other, _ = worn(registry)
        registry.assign(device, patient, from_ns=None, to_ns=None)
        registry.assign(other, patient, from_ns=None, to_ns=None)
        assert {one.device for one in registry.assignments(patient=patient)} == {device, other}

    @pytest.mark.parametrize(
        ("own", "patients", "devices", "expected"),
        [
            ("Asia/Tokyo", "Europe/Berlin", "America/Lima", "Asia/Tokyo"),
            (None, "Europe/Berlin", "America/Lima", "Europe/Berlin"),
            (None, None, "America/Lima", "America/Lima"),
            (None, None, None, None),
        ],
    )
    def test_zone_in_force(
        self, registry: SqlRegistry, own: str | None, patients: str | None, devices: str | None, expected: str | None
    ) -> None:
        patient = registry.add_patient(zone=patients).id
        device = registry.enrol("json", zone=devices)[0].id
        assert registry.assign(device, patient, from_ns=None, to_ns=None, zone=own).zone == expected
        assert [one.zone for one in registry.assignments(device=device)] == [expected]

    def test_readings_before_a_move_keep_the_zone_of_their_time(self, registry: SqlRegistry, clock: FakeClock) -> None:
        patient = registry.add_patient(zone="Europe/Berlin").id
        device = registry.enrol("json")[0].id
        registry.assign(device, patient, from_ns=None, to_ns=None)
        clock.advance(3600)
        moved = clock.now_ns()
        registry.update_patient(patient, zone="Asia/Tokyo")
        assert registry.assignments(device=device) == [
            Assignment(device, patient, None, moved, "Europe/Berlin"),
            Assignment(device, patient, moved, None, "Asia/Tokyo"),
        ]
        later = registry.enrol("json")[0].id
        assert registry.assign(later, patient, from_ns=moved, to_ns=moved + SECOND).zone == "Asia/Tokyo"
        assert len(registry.assignments(device=later)) == 1
        earlier = registry.enrol("json")[0].id
        assert registry.assign(earlier, patient, from_ns=0, to_ns=moved).zone == "Europe/Berlin"

    def test_a_zone_declared_late_was_always_true(self, registry: SqlRegistry, clock: FakeClock) -> None:
        device, patient = worn(registry)
        registry.assign(device, patient, from_ns=None, to_ns=None)
        clock.advance(3600)
        registry.update_patient(patient, zone="Asia/Tokyo")
        assert registry.assignments() == [Assignment(device, patient, None, None, "Asia/Tokyo")]


class TestVersions:
    def test_every_write_changes_the_version_and_no_read_does(self, registry: SqlRegistry) -> None:
        seen = [registry.version()]

        def changed() -> None:
            assert registry.version() not in seen
            seen.append(registry.version())

        patient = registry.add_patient().id
        changed()
        registry.update_patient(patient, zone="Asia/Tokyo", condition="copd")
        changed()
        registry.set_status(patient, "paused", 0)
        changed()
        device, secret = registry.enrol("json")
        changed()
        registry.rotate(device.id)
        changed()
        registry.assign(device.id, patient, from_ns=None, to_ns=None)
        changed()
        registry.revoke(device.id)
        changed()
        registry.authenticate(device.id, secret.encode())
        registry.devices()
        registry.assignments()
        registry.patients()
        registry.revoke(device.id)
        assert registry.version() == seen[-1]

    def test_another_owner_of_the_file_sees_each_write(
        self, registry: SqlRegistry, tmp_path: Path, clock: FakeClock
    ) -> None:
        other = SqlRegistry(tmp_path / "registry.db", clock)
        try:
            device, secret = registry.enrol("json")
            patient = registry.add_patient(zone="Asia/Tokyo").id
            assert other.authenticate(device.id, secret.encode())
            assert other.version() == registry.version()
            registry.assign(device.id, patient, from_ns=None, to_ns=None)
            assert other.assignments() == registry.assignments()
            other.revoke(device.id)
            assert not registry.authenticate(device.id, secret.encode())
            registry.set_status(patient, "paused", clock.now_ns())
            assert other.patient(patient).status == "paused"
        finally:
            other.close()

    def test_everything_is_there_after_reopening(self, registry: SqlRegistry, tmp_path: Path, clock: FakeClock) -> None:
        device, secret = registry.enrol("json", settings={"a": "b"})
        patient = registry.add_patient(zone="Asia/Tokyo", condition="copd")
        registry.assign(device.id, patient.id, from_ns=5, to_ns=None)
        held = (registry.devices(), registry.patients(), registry.assignments(), registry.version())
        registry.close()
        again = SqlRegistry(tmp_path / "registry.db", clock)
        assert (again.devices(), again.patients(), again.assignments(), again.version()) == held
        assert again.authenticate(device.id, secret.encode())
        again.close()

    def test_threads_write_and_read_at_once(self, registry: SqlRegistry) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(10):
                    device, secret = registry.enrol("json")
                    assert registry.authenticate(device.id, secret.encode())
                    assert device in registry.devices()
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(registry.devices()) == 40

    def test_a_busy_database_is_a_retryable_failure(self, registry: SqlRegistry, tmp_path: Path) -> None:
        registry.close()
        (tmp_path / "registry.db").unlink()
        (tmp_path / "registry.db").mkdir()
        with pytest.raises(BackendError) as caught:
            SqlRegistry(tmp_path / "registry.db", FakeClock())
        assert caught.value.retryable


def _open_and_enrol(path: Path, ident: str) -> None:
    registry = SqlRegistry(path, FakeClock())
    for number in range(5):
        registry.enrol("json", device=f"{ident}-{number}")
    registry.close()


def test_processes_create_and_write_one_file_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path = tmp_path / "registry.db"
    workers = [spawn.Process(target=_open_and_enrol, args=(path, f"w{number}")) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    registry = SqlRegistry(path, FakeClock())
    assert len(registry.devices()) == 15
    assert registry.version() == 15
    registry.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9)), min_size=1, max_size=8))
def test_the_newest_declaration_holds_from_its_time_on(declarations: list[tuple[str, int | None]]) -> None:
    intervals = declared(declarations)
    for before, after in pairwise(intervals):
        assert before.to_ns == after.from_ns
        assert before.value != after.value
    for time in range(10):
        held = [value for value, start in declarations if start is None or start <= time]
        if held:
            assert in_force(intervals, time) == held[-1]
    assert intervals[-1].to_ns is None


def test_before_the_first_declaration_the_first_one_holds() -> None:
    assert in_force([Interval("a", 5, 9), Interval("b", 9, None)], 1) == "a"
    assert in_force([], 1) is None


class TestGrants:
    """A second secret for a short time, beside the device's own."""

    def test_both_secrets_work_until_the_second_ends(self, registry: SqlRegistry, clock: FakeClock) -> None:
        device, own = registry.enrol("json")
        other, _ = registry.enrol("json")
        granted = registry.grant(device.id, 60)
        again = registry.grant(device.id, 120)
        assert len({own, granted, again}) == 3
        assert all(registry.authenticate(device.id, secret.encode()) for secret in (own, granted, again))
        assert not registry.authenticate(other.id, granted.encode())
        clock.advance(61)
        assert registry.authenticate(device.id, own.encode())
        assert not registry.authenticate(device.id, granted.encode())
        assert registry.authenticate(device.id, again.encode())

    def test_a_revoked_device_has_none(self, registry: SqlRegistry) -> None:
        device, _ = registry.enrol("json")
        granted = registry.grant(device.id, 60)
        registry.revoke(device.id)
        assert not registry.authenticate(device.id, granted.encode())

    def test_other_processes_know_them(self, registry: SqlRegistry, tmp_path: Path, clock: FakeClock) -> None:
        other = SqlRegistry(tmp_path / "registry.db", clock)
        device, _ = registry.enrol("json")
        assert other.device(device.id) == device
        granted = registry.grant(device.id, 60)
        assert other.authenticate(device.id, granted.encode())
        other.close()

    def test_times_and_devices_are_checked(self, registry: SqlRegistry) -> None:
        device, _ = registry.enrol("json")
        for ttl_s in (0, 86_401):
            with pytest.raises(InvalidRequest) as caught:
                registry.grant(device.id, ttl_s)
            assert caught.value.field == "ttl_s"
        with pytest.raises(NotFound):
            registry.grant("nobody", 60)
