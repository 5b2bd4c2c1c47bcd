"""Flood and storm: suppression of alerts when there are many at once (clinical.md 5.3).

Both mute, and say so in one alert of their own; neither ever mutes an S1. Grouping is in :mod:`alerts.cases.register`,
the chatter guard in :mod:`alerts.cases.casebook`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from alerts.cases.cases import MUTE, Case, Subject
from alerts.cases.lifecycle import Report, Trigger
from alerts.cases.register import Cases
from alerts.rules.spec import RuleFace
from vitals.canary import is_canary
from vitals.glossary import AlertState, Severity
from vitals.times import MINUTE_NS

FLOOD_RAISES: Final = 10
"""More alerts of one patient than this within ``FLOOD_NS`` are a flood; it lasts until none came for as long."""
FLOOD_NS: Final = 10 * MINUTE_NS
STORM_NS: Final = 60 * MINUTE_NS
"""How long a storm may mute."""
_STORM_LEAST: Final = 5
_STORM_BEGINS, _STORM_ENDS = 5, 10
"""Fractions of the patients watched: more than a fifth silent begins a storm, under a tenth ends it."""
CYCLES: Final = 3
"""More ends of a condition than this within half an hour: it chatters (clinical.md 5.3)."""
QUIET_NS: Final = 30 * MINUTE_NS
"""How long a chattering condition must have been quiet."""
FLOOD, STORM = "flood", "storm"
STORM_KEY: Final = "|technical:storm"

_FLOOD_FACE: Final = RuleFace(
    FLOOD, 1, "Many alerts at once", FLOOD, "nurse", 0, 0, technical=False,
    advice="Look at the patient, not at each alert",
)  # fmt: skip
_STORM_FACE: Final = RuleFace(
    STORM_KEY[1:], 1, "Many patients are silent at once", STORM_KEY[1:], "technician", 60 * 60, 0, technical=True,
    advice="Look for one cause: gateway, network, message broker",
)  # fmt: skip


class Flood(msgspec.Struct, array_like=True):
    """Alerts of one patient: when the last ones were raised, and until when the flood lasts if none follows."""

    raises: list[int] = []
    until_ns: int | None = None

    def raised(self, at_ns: int) -> bool:
        """Count a raise; whether a flood begins with it."""
        self.raises = [*(then for then in self.raises if then > at_ns - FLOOD_NS), at_ns]
        begins = self.until_ns is None and len(self.raises) > FLOOD_RAISES
        if begins or self.until_ns is not None:
            self.until_ns = at_ns + FLOOD_NS
        return begins


class Floods:
    """The floods of all patients."""

    def __init__(self, cases: Cases, state: Iterable[tuple[str, Flood]] = ()) -> None:
        self._cases = cases
        self._floods = dict(state)
        for patient, flood in self._floods.items():
            self._arm(patient, flood)

    def dump(self) -> list[tuple[str, Flood]]:
        """By patient."""
        return sorted(self._floods.items(), key=lambda item: item[0])

    def _arm(self, patient: str, flood: Flood) -> None:
        self._cases.timers.arm(f"{FLOOD}|{patient}", None if flood.until_ns is None else (flood.until_ns, MUTE))

    def mutes(self, subject: Subject, at_ns: int) -> bool:
        """Count an alert about to be raised; whether the patient's alerts are a flood by now: the canary's never."""
        patient = subject.patient
        if is_canary(patient):
            return False
        flood = self._floods.setdefault(patient, Flood())
        begins = flood.raised(at_ns)
        self._arm(patient, flood)
        if begins:
            members = [case for case in self._cases.open_of(patient) if case.raised_ns > at_ns - FLOOD_NS]
            summary = _flood_subject(patient, members, subject.severity, at_ns)
            self._cases.tell(_flood_key(patient), summary, at_ns, _flood_text(members, subject.face.title))
        return flood.until_ns is not None and subject.severity is not Severity.S1

    def clock_moved(self, step_ns: int) -> None:
        """The clock of ticks was moved: floods last as long as before."""
        for patient, flood in self._floods.items():
            flood.raises = [then + step_ns for then in flood.raises]
            flood.until_ns = None if flood.until_ns is None else flood.until_ns + step_ns
            self._arm(patient, flood)

    def end(self, patient: str, at_ns: int, text: str) -> None:
        """A flood is over: what it muted and still holds asks people."""
        flood = self._floods.pop(patient, None)
        if flood is not None:
            self._cases.timers.arm(f"{FLOOD}|{patient}", None)
            self._cases.finish(_flood_key(patient), at_ns, text)
            self._cases.release((case for case in self._cases.open_of(patient) if case.suppressed == FLOOD), at_ns)


class Storm(msgspec.Struct, array_like=True):
    """Whether many patients are silent at once. ``spent``: it lasted its time and may not mute again until it is over.

    ``pending`` are patients muted since the last were listed.
    """

    until_ns: int | None = None
    spent: bool = False
    pending: list[str] = []

    def begins(self, silent: int, watched: int) -> bool:
        """Whether so many are silent that it is one trouble and not many."""
        if silent * _STORM_ENDS < watched or not watched:
            self.spent = False
        many = silent >= _STORM_LEAST and silent * _STORM_BEGINS > watched
        return many and not self.spent and self.until_ns is None

    def over(self, silent: int, watched: int) -> bool:
        """Whether a storm ends with these numbers."""
        return self.until_ns is not None and (silent * _STORM_ENDS < watched or not watched)


class Storms:
    """The storm of the site."""

    def __init__(self, cases: Cases, state: Storm | None = None) -> None:
        self._cases = cases
        self.state = Storm() if state is None else state
        self._arm()

    def _arm(self) -> None:
        until_ns = self.state.until_ns
        self._cases.timers.arm(STORM, None if until_ns is None else (until_ns, MUTE))

    def clock_moved(self, step_ns: int) -> None:
        """The clock of ticks was moved: a storm lasts as long as before."""
        self.state.until_ns = None if self.state.until_ns is None else self.state.until_ns + step_ns
        self._arm()

    def mutes(self, subject: Subject) -> bool:
        """Whether an alert about to be raised is one of the silences that a storm mutes; its patient is listed."""
        storm = self.state
        silence = subject.face.silence and subject.severity is not Severity.S1
        if storm.until_ns is None or not silence:
            return False
        if all(case.suppressed != STORM for case in self._cases.open_of(subject.patient)):
            storm.pending = [*storm.pending, subject.patient]
        return True

    def look(self, silent: int, watched: int, at_ns: int) -> None:
        """Begin, go on or end, by how many of the patients that are watched are silent."""
        storm = self.state
        if storm.over(silent, watched):
            self.end(at_ns, "most patients are heard again", spent=False)
        elif storm.begins(silent, watched):
            self._begin(silent, watched, at_ns)
        elif storm.pending:
            patients, storm.pending = storm.pending, []
            case = self._cases.current(STORM_KEY)
            assert case is not None
            case.limit = {"patients": patients}
            text = _storm_text(silent, watched, patients)
            self._cases.step(case, Trigger.ADDS, at_ns, Report(text=text))

    def _begin(self, silent: int, watched: int, at_ns: int) -> None:
        self.state.until_ns = at_ns + STORM_NS
        self._arm()
        muted = [case for case in self._cases.all_open() if _mutes_silence(case)]
        patients = list(dict.fromkeys(case.patient for case in muted))
        text = _storm_text(silent, watched, patients)
        self._cases.tell(STORM_KEY, _storm_subject(patients, at_ns), at_ns, text)
        for case in muted:
            case.suppressed = STORM
            text = "muted: many patients are silent at once, see the alert of the site"
            self._cases.step(case, Trigger.SUPPRESS, at_ns, Report(text=text))

    def end(self, at_ns: int, text: str, *, spent: bool) -> None:
        """It is over: patients that are still silent are told of one by one."""
        self.state = Storm(spent=spent)
        self._arm()
        self._cases.finish(STORM_KEY, at_ns, text)
        self._cases.release((case for case in self._cases.all_open() if case.suppressed == STORM), at_ns)


def _mutes_silence(case: Case) -> bool:
    """Whether a storm mutes this alert: of a silence, not S1, that nobody has seen to yet."""
    silence = case.face.silence and not case.urgent
    return silence and case.state is AlertState.ACTIVE_UNACK


def _flood_key(patient: str) -> str:
    """Key of the summary of a patient's flood."""
    return f"{patient}|{FLOOD}"


def _flood_subject(patient: str, members: Sequence[Case], severity: Severity, at_ns: int) -> Subject:
    """The summary of a flood: as urgent as the most urgent of the ``members`` and the one that is on its way."""
    top = min([severity, *(case.severity for case in members)])
    listed = {"alerts": [case.id for case in members]}
    resolves = "no alert was raised for 10 minutes"
    return Subject(patient, _FLOOD_FACE, top, False, listed, (-1, 0, at_ns, 0), resolves)


def _flood_text(members: Sequence[Case], title: str) -> str:
    """What the summary says: how many, and each title once."""
    titles = dict.fromkeys([*(case.face.title for case in members), title])
    return f"More than {FLOOD_RAISES} alerts within 10 minutes: {', '.join(titles)}"


def _storm_subject(muted: Sequence[str], at_ns: int) -> Subject:
    """The one alert of the site."""
    resolves = "fewer than a tenth of the patients are silent, at the latest after 60 minutes"
    return Subject("", _STORM_FACE, Severity.S2, False, {"patients": list(muted)}, (-1, 0, at_ns, 0), resolves)


def _storm_text(silent: int, watched: int, muted: Sequence[str]) -> str:
    """What it says: how many, and whom it mutes."""
    names = ", ".join(muted) or "nobody yet"
    return f"{silent} of {watched} patients are silent at once; muted: {names}"
