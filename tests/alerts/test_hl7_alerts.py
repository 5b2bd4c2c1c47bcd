"""Severe values of bedside monitors page: from an HL7 message through ingest to the engine."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.alert_world import limit
from tests.alerts.bedside import S1, Bedside, Expected, RuleSet, urgent
from tests.alerts.programme_world import document, enrolled, programme
from tests.ingest.ingest_world import World
from tests.support import SECOND
from vitals.glossary import ControlKind, EventKind
from vitals.model import Control
from vitals.records import AlertEvent

MMHG, RATE, PERCENT = "266016^MDC_DIM_MMHG^MDC", "264864^MDC_DIM_BEAT_PER_MIN^MDC", "262688^MDC_DIM_PERCENT^MDC"
BREATHS = "264928^MDC_DIM_RESP_PER_MIN^MDC"
PROTOCOLS = ("heart_failure", "hypertension", "post_surgical", "rhythm", "copd", "diabetes")
OTHER_METHODS = {
    "bp_sys": "bp_art_sys", "bp_dia": "bp_art_dia", "heart_rate": "pulse_rate_art", "resp_rate": "resp_rate_vent",
}  # fmt: skip
ONE_METHOD = {("post_surgical", "resp_rate")}
"""Criteria beside one that is already on several vital signs: a combination may have one such member."""


def programmed(*names: str) -> RuleSet:
    def entries(patient: str) -> Sequence[Control]:
        return [programme("ward", [document(name) for name in names], 0), *enrolled(patient, ["ward"], 0)]

    return RuleSet(" ".join(names), entries, lambda vital, side: Expected(S1, 900.0))


def breathing() -> RuleSet:
    """An S1 limit of 8 /min on ``resp_rate``."""
    written = limit(severity="S1", vital="resp_rate", unit="/min", low=8.0, high=None, deadband=1.0)
    return RuleSet(
        "breathing",
        lambda patient: [
            Control(
                ControlKind.LIMITS, 0, "dr_a", {"patient": patient, "version": 1, "reason": "", "limits": [written]}
            )
        ],
        lambda vital, side: Expected(S1, 60.0),
    )


class Monitor(Bedside):
    """A patient on a bedside monitor."""

    def __init__(self, world: World, rules: RuleSet) -> None:
        super().__init__(world, rules)
        world.device("hl7v2-1", "hl7v2")
        world.registry.assign("hl7v2-1", self.patient, from_ns=None, to_ns=None)

    def say(self, *rows: str) -> list[AlertEvent]:
        """One message of now; a row is ``CODE|VALUE|UNIT``."""
        stamp = datetime.fromtimestamp(self.world.clock.now_ns() // SECOND, UTC).strftime("%Y%m%d%H%M%S+0000")
        lines = [f"MSH|^~\\&|MON|W|||{stamp}||ORU^R01^ORU_R01|M{next(self.numbers)}|P|2.6", "PID|||P1",
                 f"OBR|1|||182777000^monitoring of patient^SCT|||{stamp}"]  # fmt: skip
        for number, row in enumerate(rows, 1):
            code, value, unit = row.split("|")
            lines.append(f"OBX|{number}|NM|{code}|1.1.{number}.1|{value}|{unit}|||||F|||{stamp}")
        return self.send("\r".join([*lines, ""]).encode(), "hl7v2", "oru_r01")

    def repeated(self, code: str, value: float, unit: str) -> list[tuple[str, str, float]]:
        """What a value that stays for eight minutes raises: rule without its vital, severity, and after how
        many seconds."""
        start_ns, told = self.world.clock.now_ns(), []
        for _ in range(8):
            for event in [*self.say(f"{code}|{value:g}|{unit}"), *self.wait(60)]:
                if event.kind in ("raised", "worsened") and event.severity is S1:
                    told.append((event.rule.partition("@")[0], event.severity.value, (event.at_ns - start_ns) / SECOND))
        return told


@pytest.fixture
def beds(tmp_path: Path) -> Iterator[Any]:
    worlds: list[World] = []

    def made(rules: RuleSet) -> Monitor:
        path = tmp_path / str(len(worlds))
        path.mkdir()
        worlds.append(World(path))
        return Monitor(worlds[-1], rules)

    yield made
    for world in worlds:
        world.close()


@pytest.mark.parametrize(
    ("protocol", "cuff", "line", "value", "unit"),
    [
        ("heart_failure", "150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "150033^MDC_PRESS_BLD_ART_SYS^MDC", 62, MMHG),
        ("heart_failure", "150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "0002-4a15^ABPs^MDIL", 205, MMHG),
        ("hypertension", "150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "150033^MDC_PRESS_BLD_ART_SYS^MDC", 205, MMHG),
        ("hypertension", "150022^MDC_PRESS_BLD_NONINV_DIA^MDC", "150034^MDC_PRESS_BLD_ART_DIA^MDC", 128, MMHG),
        ("hypertension", "150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "150037^^MDC", 68, MMHG),
        ("post_surgical", "150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "150033^MDC_PRESS_BLD_ART_SYS^MDC", 86, MMHG),
        ("heart_failure", "149546^MDC_PULS_RATE_NON_INV^MDC", "149522^^MDC", 34, RATE),
    ],
)
def test_an_arterial_line_pages_as_a_cuff_does(
    beds: Any, protocol: str, cuff: str, line: str, value: float, unit: str
) -> None:
    by_cuff, by_line = (beds(programmed(protocol)).repeated(code, value, unit) for code in (cuff, line))
    assert by_line, "a severe value of an arterial line pages"
    # The early-warning score reads cuffs alone, so that it may page for them besides.
    assert set(by_line) <= set(by_cuff)
    assert [told for told in by_cuff if not told[0].startswith("post_surgical:S3")] == by_line


def limit_parts(protocol: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rules and members of rules that compare a vital sign with a limit."""
    for rule in protocol["rules"]:
        yield from (part for part in rule.get("members", [rule]) if part["type"] == "limit")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_shipped_limit_on_a_vital_is_on_its_other_methods_too(name: str) -> None:
    for part in limit_parts(document(name)):
        other = OTHER_METHODS.get(part["vital"])
        if other is not None and (name, part["vital"]) not in ONE_METHOD:
            assert other in part.get("also_on", ()), part


@pytest.mark.parametrize("first", ["impedance", "co2"])
def test_of_two_methods_in_one_message_each_is_judged(beds: Any, first: str) -> None:
    rows = {"impedance": f"151578^MDC_TTHOR_RESP_RATE^MDC|{{}}|{BREATHS}",
            "co2": f"151594^MDC_CO2_RESP_RATE^MDC|{{}}|{BREATHS}"}  # fmt: skip
    for low in rows:
        bed = beds(breathing())
        ordered = sorted(rows, key=lambda name: name != first)
        events = bed.say(*(rows[name].format(4 if name == low else 17) for name in ordered))
        assert urgent([*events, *bed.wait(60)]), f"no breath by {low}"


def test_number_and_name_of_two_vitals_ask_a_person_to_look(beds: Any) -> None:
    bed = beds(programmed("copd"))
    events = bed.say(f"150456^MDC_ECG_HEART_RATE^MDC|70|{PERCENT}")
    [told] = [event for event in events if event.kind == "raised"]
    assert told.text == (
        "Perhaps Oxygen saturation 70 % from device hl7v2-1, but its codes are those of different vital signs: look at "
        "the person, then have the device's codes checked"
    )
    assert not bed.world.rows(), "no reading is made of it"
    [listed] = bed.world.service.unknown_codes()
    assert (listed.kind, listed.samples) == (EventKind.CODE_CONFLICT, (70.0,))


def test_a_monitor_that_names_another_patient_is_told_once_and_judges_nobody(beds: Any) -> None:
    bed, spo2 = beds(programmed("copd")), f"150456^MDC_PULS_OXIM_SAT_O2^MDC|{{}}|{PERCENT}"
    bed.world.known_as(bed.patient, "12345")
    events = bed.say(spo2.format(97))
    [told] = [event for event in events if event.kind == "raised"]
    assert (told.rule, told.patient, told.severity.name) == ("review:other_patient:hl7v2-1", "", "S2")
    assert told.text == (
        "Device hl7v2-1 names another patient than the one it is assigned to, and its readings wait: look who is on "
        "the device, correct the assignment or the patient on the device, then assign the readings"
    )
    for _ in range(3):
        assert not bed.say(spo2.format(97))
        assert not [event for event in bed.wait(600) if event.kind == "raised" and event.patient == ""]
    [extreme] = bed.say(spo2.format(70))
    assert (extreme.rule, extreme.text) == (
        "review:unclaimed:hl7v2-1",
        "Oxygen saturation 70 % from device hl7v2-1, and nobody knows whose it is (it names another patient than the "
        "one it is assigned to): find the person, then assign the readings",
    )
    assert not bed.world.rows()
    assert {alert.rule for alert in bed.engine.open_alerts() if alert.patient == bed.patient} <= {
        "copd:S2-no-data-spo2"
    }
    bed.do(ControlKind.RESOLVE, told.alert)
    bed.wait(300)
    again = bed.say(spo2.format(97))
    assert [(event.kind, event.rule) for event in again] == [("reopened", told.rule)], "it is not over"


def test_a_severe_value_that_cannot_be_read_asks_a_person_to_look(beds: Any) -> None:
    bed = beds(programmed("copd"))
    events = bed.say("150456^MDC_PULS_OXIM_SAT_O2^MDC|70|furlong")
    [told] = [event for event in events if event.kind == "raised"]
    assert told.text == (
        "Perhaps Oxygen saturation 70 % from device hl7v2-1, but the value cannot be read as a whole: look at the "
        "person, then at its message in quarantine"
    )
    assert not bed.world.rows(), "no reading is made of it"
    [listed] = bed.world.service.unknown_codes()
    assert (listed.kind, listed.code, listed.samples) == (EventKind.UNREADABLE, "spo2: unknown_unit", (70.0,))
