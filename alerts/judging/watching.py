"""What watches whom: limits of a patient's own and the rules of his programmes, put in force as slots, watches for
silence, device troubles and scores. Changing rules keeps all state that they do not concern."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from alerts.judging.scoring import ScoreContext, ScoreTable
from alerts.judging.silence import SilenceTable
from alerts.judging.slots import SlotTable
from alerts.judging.troubles import DeviceTroubles
from alerts.programmes.bodies import read_context, read_enrolment, read_programme
from alerts.programmes.controls import read_limits
from alerts.programmes.in_force import Programmes, Reminder
from alerts.rules.gates import PatientContext
from alerts.rules.own import limit_rules, silence_rule
from alerts.rules.spec import Compiled
from alerts.scores.tables import AgeBand, Pregnancy
from vitals.glossary import ControlKind
from vitals.model import Control

_NOTHING: Final = Compiled()
_AGES: Final = {"unknown": AgeBand.UNKNOWN, "under_16": AgeBand.UNDER_16, "adult": AgeBand.ADULT}
_PREGNANT: Final = {"unknown": Pregnancy.UNKNOWN, "no": Pregnancy.NO, "yes": Pregnancy.YES}


def _scored(context: PatientContext) -> ScoreContext:
    """The clinical context as scores read it."""
    pregnancy, confusion = _PREGNANT[context.pregnancy], int(context.usual_confusion)
    return ScoreContext(int(_AGES[context.age_band]), int(pregnancy), context.spo2_scale, confusion)


class Watching:
    """All that judges readings, time and devices, for every patient."""

    def __init__(self) -> None:
        self.table = SlotTable()
        self.silence = SilenceTable(self.table.rules)
        self.scores = ScoreTable()
        self.troubles = DeviceTroubles()
        self._programmes = Programmes()
        self._limits: dict[str, tuple[int, list[int]]] = {}
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, patient: str) -> Compiled:
        """What the programmes of a patient watch him by now."""
        return self._compiled.get(patient, _NOTHING)

    def set_limits(self, control: Control) -> list[tuple[str, str]]:
        """The limits of a patient were replaced; (patient, rule) of those that went. Raises ``InvalidRequest``."""
        body, limits = read_limits(control)
        if body.version <= self._limits.get(body.patient, (0, []))[0]:
            return []
        rules = limit_rules(limits, body.version)
        self._limits[body.patient] = (body.version, sorted({rule.spec.vital for rule in rules}))
        retired = self.table.assign([body.patient], rules, own=True)
        self._expect(body.patient, control.time_ns)
        return retired

    def set_rules(self, control: Control) -> list[tuple[str, str]]:
        """A programme, an enrolment or a context changed; likewise."""
        programmes, body = self._programmes, control.body
        match control.kind:
            case ControlKind.PROGRAMME:
                patients = programmes.adopt(read_programme(body), control.time_ns)
            case ControlKind.ENROLMENT:
                patients = programmes.enrol(read_enrolment(body))
            case _:
                patients = programmes.set_context(read_context(body))
        return self._put_in_force(patients, control.time_ns)

    def due(self, watermark_ns: int) -> tuple[list[Reminder], list[tuple[str, str]]]:
        """What was said to begin or end by now: programmes that are past their review, rules that went."""
        due = self._programmes.due(watermark_ns)
        return due.reminders, self._put_in_force(due.patients, watermark_ns)

    def step(self, step_ns: int) -> None:
        """The clock of receipts and ticks was moved by ``step_ns``: what runs now runs on, no longer and no shorter."""
        self.table.step(step_ns)
        self.silence.step(step_ns)

    def close(self, patient: str, rule: str, time_ns: int) -> None:
        """A person closed the alert of a rule: its condition is judged anew."""
        for slot in self.table.slots_of(patient):
            if self.table.face(slot).name == rule:
                self.table.reset(slot)
        watch = self.silence.number_of(patient, rule)
        if watch is not None:
            self.silence.rearm(watch, time_ns)

    def _put_in_force(self, patients: Sequence[str], time_ns: int) -> list[tuple[str, str]]:
        retired: list[tuple[str, str]] = []
        for compiled, group in self._programmes.groups(patients):
            changed = [(patient, self.compiled(patient)) for patient in group]
            changed = [(patient, before) for patient, before in changed if before != compiled]
            self._compiled.update((patient, compiled) for patient, _ in changed)
            if changed:
                retired += self.table.assign([patient for patient, _ in changed], compiled.on_readings, own=False)
            for patient, before in changed:
                if before.silences != compiled.silences:
                    self._expect(patient, time_ns)
                if before.troubles != compiled.troubles:
                    self.troubles.expect(patient, compiled.troubles)
            if compiled.score is not None or any(before.score is not None for _, before in changed):
                for patient in group:
                    self.scores.expect(patient, compiled.score, _scored(self._programmes.context(patient)))
        return retired

    def _expect(self, patient: str, time_ns: int) -> None:
        """The silences that a patient's programmes watch, and those of his own limits that they do not."""
        silences = list(self.compiled(patient).silences)
        watched = {rule.vital for rule in silences}
        version, vitals = self._limits.get(patient, (0, []))
        silences += [silence_rule(vital, version) for vital in vitals if vital not in watched]
        self.silence.expect(patient, silences, time_ns)

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal states give equal bytes."""
        return {
            "table": self.table.dump(), "silence": self.silence.dump(), "scores": self.scores.dump(),
            "troubles": self.troubles.dump(), "programmes": self._programmes.dump(), "limits": self._limits,
            "ruled": sorted(self._compiled),
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any], *, renew: bool = False) -> "Watching":
        """The inverse of :meth:`dump`; ``renew`` gives slots the rules as they are compiled now.

        Raises ``KeyError`` or ``ValueError`` when ``state`` is not one.
        """
        own = cls()
        own.table = SlotTable.load(state["table"])
        own.silence = SilenceTable.load(state["silence"], own.table.rules)
        own.scores, own.troubles = ScoreTable.load(state["scores"]), DeviceTroubles.load(state["troubles"])
        own._programmes = Programmes.load(state["programmes"])
        own._limits = {patient: (version, vitals) for patient, (version, vitals) in state["limits"].items()}
        for compiled, group in own._programmes.groups(state["ruled"]):
            own._compiled.update(dict.fromkeys(group, compiled))
        if renew:
            own.table.renew((group, compiled.on_readings) for compiled, group in own._programmes.groups(state["ruled"]))
        return own
