"""``load`` and ``bench`` as commands: the shape of what they print, and that it is true. Not how fast anything is."""

import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from deploy.bench import ward
from deploy.bench.adapters import kinds, payloads, us_per_message
from deploy.bench.e2e import quantile_s
from deploy.bench.processes import MemoryPeak, cpu_s, rss_mb
from deploy.bench.report import Figure, repeat
from ingest.adapter import Context
from simulators.formats import FORMATS
from tests.adapters.decoding import ADAPTERS
from tests.deploy.conftest import Running, run_cli
from vitals.canary import is_canary
from vitals.catalog import BY_CODE
from vitals.errors import BackendError
from vitals.glossary import ControlKind

E2E = {
    "acked_messages_per_s", "server_cpu_us_per_message", "ack_ms_p50", "ack_ms_p99", "device_to_stored_ms_p99",
    "device_to_alert_ms_p50", "device_to_alert_ms_p99", "peak_rss_mb",
}  # fmt: skip
"""What CONTRACTS asks of ``bench e2e`` at least."""


def _ledger(path: Path) -> list[tuple[str, int]]:
    lines = (line.split(",") for line in path.read_text().splitlines())
    return [(device, int(seq)) for device, seq in lines]


def test_load_enrols_devices_and_its_ledger_lists_exactly_what_was_acknowledged_and_stored(
    running: Running, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.csv"
    answer = running.cli(
        "load", "--mqtt", f"{running.host}:{running.port}", "--connections", "4", "--rate", "200", "--seconds", "1",
        "--qos", "1", "--payload", "json2", "--ledger", str(ledger),
    )  # fmt: skip
    assert answer["sent"] == answer["acked"] > 0
    assert 0 < answer["ack_ms"]["p50"] <= answer["ack_ms"]["p99"]
    listed = _ledger(ledger)
    assert len(listed) == len(set(listed)) == answer["acked"]
    for device, count in Counter(device for device, _ in listed).items():
        found = running.settled(device)
        assert found["messages"]["received"] == found["messages"]["decoded"] == count
        assert found["readings"]["stored"] == 2 * count
    assert running.stop() == 0
    with sqlite3.connect(running.data / "vitals.db") as vitals:
        stored = vitals.execute(
            "SELECT DISTINCT token, seq FROM identities JOIN devices ON devices.id = identities.device"
        ).fetchall()
    assert sorted(row for row in stored if not is_canary(row[0])) == sorted(listed)


def test_load_needs_an_owner_or_credentials(tmp_path: Path) -> None:
    words = run_cli("load", "--mqtt", "127.0.0.1:1", "--data-dir", str(tmp_path / "none"), expect=4)
    assert "--credentials" in words


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["load", "--mqtt", "nonsense"], 2),
        (["load", "--mqtt", "127.0.0.1:1", "--payload", "xml"], 2),
        (["load", "--mqtt", "127.0.0.1:1", "--qos", "0", "--rate", "0", "--user", "u"], 2),
        (["load", "--mqtt", "127.0.0.1:1", "--user", "u", "--connections", "1"], 4),
        (["bench", "coffee"], 2),
        (["bench", "gateway", "--connections", "many"], 2),
    ],
)
def test_wrong_usage_has_its_exit_code(arguments: list[str], code: int) -> None:
    assert run_cli(*arguments, expect=code)


def _report(answer: dict[str, Any], name: str, metrics: set[str]) -> dict[str, dict[str, Any]]:
    assert set(answer) == {"name", "env", "workload", "runs"}
    assert answer["name"] == name
    assert {"cpu", "cores", "python", "packages", "load"} <= set(answer["env"])
    assert answer["workload"]
    runs: dict[str, dict[str, Any]] = {entry["metric"]: entry for entry in answer["runs"]}
    assert metrics <= set(runs)
    assert all(entry["unit"] and entry["value"] >= 0 for entry in runs.values())
    return runs


def test_bench_engine_finds_the_alerts_that_are_there() -> None:
    answer = run_cli("bench", "engine", "--runs", "2", "--rows", "50000")
    metrics = {"readings_per_s", "limits_readings_per_s", "tick_ms", "protocol_change_s", "slots_enrol_s"}
    runs = _report(answer, "engine", metrics)
    events = {run["of"]: run["all"] for run in answer["runs"] if run["metric"] == "alert_events"}
    # Rows 20,011 and 40,022 violate; the patient's next reading, a thousand rows later, ends each.
    assert events["limits"] == [4, 4]
    # Patients who are ill raise alerts, the same in each run.
    assert events["programmes"][0] == events["programmes"][1] > 0
    assert min(runs[name]["value"] for name in metrics) > 0
    assert answer["workload"]["programmes"] == 6
    assert answer["workload"]["patients_changed"] == 250
    assert 25_000 <= runs["slots"]["value"] < 25_100
    assert 500 < runs["slots_patients"]["value"] < 2000
    assert 50 < runs["slots_peak_rss_mb"]["value"] < 2000


def test_the_readings_of_a_ward_are_those_that_its_programmes_watch() -> None:
    one = ward.Ward()
    for _ in range(6):
        one.enrol()
    [batch, *_] = ward.readings(one, 1000, 1000)
    seen = {(batch.patients[who], BY_CODE[vital].key) for who, vital in zip(batch.patient, batch.vital, strict=True)}
    assert {key for patient, key in seen if patient == "p_1"} == {"glucose_isf", "glucose_bg"}, "diabetes"
    assert {key for patient, key in seen if patient == "p_5"} == {"heart_rate", "pulse_rate", "pulse_rate_nibp"}
    assert len({patient for patient, _ in seen}) == 6


def test_the_change_of_a_programme_reaches_every_rule_of_its_patients() -> None:
    one = ward.Ward()
    one.enrol((ward.CHANGED,))
    before = one.engine.compiled("p_0").rules
    one.tell(ControlKind.PROGRAMME, ward.programme(ward.CHANGED, 2))
    after = one.engine.compiled("p_0").rules
    assert len(before) == len(after) > 20
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_bench_store_says_among_how_many_rows() -> None:
    answer = run_cli("bench", "store", "--runs", "2", "--rows", "100000")
    runs = _report(answer, "store", {"rows_per_s", "window_14d_ms_p50"})
    assert answer["workload"]["rows"] == 100_000
    assert answer["workload"]["rows_per_window"] == 100
    assert len(runs["window_14d_ms_p50"]["all"]) == 2


@pytest.mark.slow
def test_bench_backtest_judges_a_seeded_ward() -> None:
    answer = run_cli("bench", "backtest", "--runs", "2", "--rows", "360000")
    assert answer["workload"] == {"readings": 360_000, "patients": 1000, "days": 0.25, "rule_sets": 2, "processes": 3}
    values = {(run["metric"], run.get("of")): run["all"] for run in answer["runs"]}
    # Two runs of the same seed: the delay of three minutes keeps out none of the ten-minute spells.
    assert values["alerts", "candidate"][0] == values["alerts", "candidate"][1] > 0
    assert values["alerts", "reference"][0] >= values["alerts", "candidate"][0]
    assert min(values["seconds", None]) > 0


def test_bench_import_accounts_for_every_record() -> None:
    answer = run_cli("bench", "import", "--runs", "1", "--rows", "5000")
    runs = _report(answer, "import", {"import_s", "records_per_s", "peak_rss_mb"})
    assert answer["workload"]["records"] == 5020
    assert answer["workload"]["distinct"] == 4980
    assert runs["records_per_s"]["value"] == pytest.approx(5020 / runs["import_s"]["value"], rel=0.01)
    assert runs["peak_rss_mb"]["value"] > 100


@pytest.mark.slow
def test_bench_adapters_measures_every_format() -> None:
    answer = run_cli("bench", "adapters", "--runs", "1")
    assert (answer["name"], set(answer)) == ("adapters", {"name", "env", "workload", "runs"})
    names = list(kinds())
    assert [entry["of"] for entry in answer["runs"]] == names
    assert {name.partition("/")[0] for name in names} == {one.adapter for one in FORMATS} <= set(ADAPTERS)
    assert all((entry["metric"], entry["unit"]) == ("us_per_message", "us") for entry in answer["runs"])
    assert all(0 < entry["value"] == entry["all"][0] for entry in answer["runs"])
    assert set(answer["workload"]["per_message"]) == set(names)
    assert answer["workload"]["per_message"]["json/none"]["readings"] == 2


@pytest.mark.parametrize("name", kinds())
def test_the_payloads_of_a_benchmark_decode(name: str) -> None:
    formats = kinds()[name]
    messages = payloads(formats, 60)
    assert messages == payloads(formats, 60), "alike each time"
    assert len({message.payload for message in messages}) > 1
    decoded = ADAPTERS[formats[0].adapter].decode(messages, [Context()] * 60)
    assert not decoded.rejects
    assert {*decoded.batch.message.tolist(), *(event.message for event in decoded.events)} == set(range(60))
    stated = {BY_CODE[code].key for code in decoded.batch.vital.tolist()}
    carried = {key for one in formats for key in one.vitals}
    assert stated <= carried
    assert stated or not carried


def test_a_benchmark_of_payloads_that_are_refused_is_an_error() -> None:
    wrong = [structs.replace(message, payload=b"\x00") for message in payloads(FORMATS[:1], 3)]
    with pytest.raises(BackendError, match="3 of 3 messages rejected"):
        us_per_message(ADAPTERS[FORMATS[0].adapter], wrong)


@pytest.mark.slow
def test_bench_gateway_measures_the_endpoint_alone() -> None:
    answer = run_cli(
        "bench", "gateway", "--runs", "1", "--seconds", "0.5", "--connections", "10", "--rate", "200"
    )  # fmt: skip
    runs = _report(answer, "gateway", {"acked_messages_per_s", "ack_ms_p99", "server_cpu_us_per_message"})
    assert runs["acked_messages_per_s"]["value"] > 0
    assert 150 <= runs["paced_messages_per_s"]["value"] <= 210
    assert runs["acked_messages_per_s"]["connections"] == 10


@pytest.mark.slow
def test_bench_e2e_measures_from_the_device_to_store_and_alert() -> None:
    answer = run_cli("bench", "e2e", "--runs", "1", "--seconds", "1", "--connections", "8", "--rate", "100")
    runs = _report(answer, "e2e", E2E)
    assert 80 <= runs["paced_messages_per_s"]["value"] <= 105
    # Eight devices violate in each fourth message: every one of them is told to the stream.
    assert 15 <= runs["alerts"]["value"] <= 26
    assert 0 < runs["ack_ms_p50"]["value"] <= runs["ack_ms_p99"]["value"]
    assert 0 < runs["device_to_alert_ms_p50"]["value"] <= runs["device_to_alert_ms_p99"]["value"]
    total, gateway, core = (
        runs[f"{name}_cpu_us_per_message"]["value"] for name in ("server", "gateway", "core")
    )  # fmt: skip
    assert gateway + core <= total + 0.01
    assert runs["peak_rss_mb"]["value"] > 50


def test_figures_are_medians_with_every_value_beside() -> None:
    values = iter([3.0, 1.0, 2.0])
    assert repeat(3, lambda: [Figure("x", next(values), "s", 7)]) == [
        {"metric": "x", "value": 2.0, "unit": "s", "connections": 7, "all": [3.0, 1.0, 2.0]}
    ]


def test_a_histogram_gives_quantiles_within_its_buckets() -> None:
    counts = [(0.1, 50.0), (0.2, 90.0), (0.4, 100.0), (float("inf"), 100.0)]
    assert quantile_s(counts, 0.5) == pytest.approx(0.1)
    assert quantile_s(counts, 0.7) == pytest.approx(0.15)
    assert quantile_s(counts, 0.95) == pytest.approx(0.3)
    assert quantile_s([(0.1, 1.0), (float("inf"), 2.0)], 0.99) == pytest.approx(0.1)


def test_processor_time_and_memory_of_a_process_are_those_of_proc() -> None:
    before = cpu_s(os.getpid())
    total = sum(number * number for number in range(2_000_000))
    assert total > 0
    assert 0.01 <= cpu_s(os.getpid()) - before < 10
    with MemoryPeak(os.getpid()) as memory:
        held = bytearray(b"x" * 2**20)
    assert len(held) == 2**20
    assert 0 < memory.peak_mb <= rss_mb(os.getpid()) + 200
