"""Scored patients in the engine: their scores, the times at which each is due, and the rows of scores.

Part of the fold over the log: its only clock is the watermark of ticks. A patient is scored at the first tick after an
input changed, ran out or left its window, or the context changed, and at most once a minute (clinical.md 2.3). The
score itself is ``alerts.scores``, the inputs are ``alerts.judging.score_kernels``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from alerts.judging.score_kernels import (
    DTYPES,
    EVERY_NS,
    KEYS,
    KINDS,
    MEASURED,
    NEVER,
    SAMPLE_NS,
    SAMPLES,
    SOURCE_OF,
    WINDOW_NS,
    Gathered,
    blank,
    gathered,
    grown,
    load,
)
from alerts.judging.state import ROW_DTYPES, Rows, Vocabulary
from alerts.rules.spec import CompiledScore
from alerts.scores import words
from alerts.scores.news2 import ContextColumns, News2, Programme, UInt8, VitalColumn, news2
from alerts.scores.tables import Bool, Int8, Parameter, Refusal
from vitals.catalog import BY_KEY
from vitals.glossary import Basis, Flag, Mode
from vitals.model import COLUMNS, Int64, VitalBatch
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_NAME

DEVICE: Final = "vitalgate:news2"
"""The device of stored scores: an id that the registry refuses."""
_FIRST: Final = 64
_CODES: Final = {key: BY_KEY[key].code for key in ("news2", "news2_min", "news2_max", "news2_red")}
_UNIT: Final = UNIT_BY_NAME["{score}"].code
_BITS: Final = np.array([1 << which for which in Parameter], dtype=np.uint8)[:, None]
_WORDS: Final = [[which.key for which in Parameter if bits >> which & 1] for bits in range(1 << len(Parameter))]
_PATIENT_COLUMNS: Final = ("programme", "evaluated_ns", "due_ns", "time_ns", "value", "flags", "ring")
_SAMPLE_COLUMNS: Final = ("sample_ns", "sample", "doubted")
_CONTEXT_COLUMNS: Final = ("age_band", "pregnancy", "spo2_scale", "usual_confusion")


class ScoreContext(NamedTuple):
    """What is on record about a patient: ``AgeBand``, ``Pregnancy``, 2 only where a clinician set scale 2, and whether
    a clinician recorded long-standing confusion."""

    age_band: int = 0
    pregnancy: int = 0
    spo2_scale: int = 0
    usual_confusion: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The patients that were scored at ``at_ns``, in order of their number; columns (n,).

    ``applies``: nothing else counts where it is false. ``hidden``: the programme can never complete the score; its low
    end is still a certain floor. ``red``: parameters with 3 points for certain. ``missing`` and ``assumed``: uint8, a
    bit per :class:`Parameter`.
    """

    at_ns: int
    patients: tuple[str, ...]
    number: Int64
    applies: Bool
    hidden: Bool
    complete: Bool
    low: Int8
    high: Int8
    red: Int8
    missing: UInt8
    assumed: UInt8

    def __len__(self) -> int:
        return len(self.patients)


def _unscored(at_ns: int, patients: tuple[str, ...], number: Int64) -> Scored:
    size = len(patients)
    bools, small, bits = (np.zeros((3, size), dtype) for dtype in (np.bool_, np.int8, np.uint8))
    return Scored(at_ns, patients, number, *bools, *small, *bits[:2])


def _fill(scored: Scored, where: Int64, scores: News2) -> None:
    """``scores`` are those of the places ``where`` of ``scored``."""
    scored.applies[where] = scores.refusal == Refusal.NONE
    scored.hidden[where], scored.complete[where] = scores.hidden, scores.complete
    scored.low[where], scored.high[where] = scores.low, scores.high
    scored.red[where] = (scores.points_low == 3).sum(axis=0)
    scored.missing[where] = (scores.missing * _BITS).sum(axis=0)
    scored.assumed[where] = (scores.assumed * _BITS).sum(axis=0)


def is_scores(batch: VitalBatch) -> bool:
    """Whether a batch of the log holds scores, which were judged when they were made."""
    return batch.devices == (DEVICE,) and bool(np.isin(batch.vital, list(_CODES.values())).all())


class ScoreTable:
    """Every patient that was ever scored, by number; equal tables dump equal bytes. Not thread-safe."""

    def __init__(self) -> None:
        self.watermark_ns = NO_TIME
        self._rings = 0
        self._tokens: list[str] = []
        self._dense: dict[str, int] = {}
        self._vocabulary = Vocabulary()
        self._rules: list[CompiledScore] = []
        self._programmes: list[Programme] = []
        self._continuous = np.zeros((0, len(KEYS)), np.bool_)
        self._staleness_ns = np.zeros((0, len(KEYS)), np.int64)
        self._inputs = blank(_FIRST, _FIRST)
        self._context = np.zeros((len(_CONTEXT_COLUMNS), _FIRST), np.uint8)

    def expect(self, patient: str, score: CompiledScore | None, context: ScoreContext) -> None:
        """Score ``patient`` from now on, or no longer (None); nothing happens where that is so already.

        Readings of before are not known, and are forgotten when scoring ends: what is missed in between might be newer.
        """
        if score is None:
            if patient in self._dense:
                self._end(self._dense[patient])
            return
        dense, programme = self._admit(patient), self._programme(score)
        asked = np.array(context, np.uint8)
        if self._inputs.programme[dense] == programme and (self._context[:, dense] == asked).all():
            return
        self._inputs.programme[dense], self._context[:, dense] = programme, asked
        for source in np.flatnonzero(self._continuous[programme] & (self._inputs.ring[dense] < 0)).tolist():
            self._add_ring(dense, source)
        if (self._inputs.time_ns[dense] != NO_TIME).any():
            soonest_ns = int(self._inputs.evaluated_ns[dense]) + EVERY_NS
            self._inputs.due_ns[dense] = min(int(self._inputs.due_ns[dense]), soonest_ns)

    def observe(self, patients: Sequence[str], rows: Rows) -> None:
        """Take in the rows of a batch with vocabulary ``patients``, those that are withdrawn included, in order."""
        if not self._tokens:
            return
        index = self._vocabulary.numbered(self._dense, patients)
        load().take(self._inputs, index, SOURCE_OF, KINDS, self._first_ns(), rows)

    def tick(self, watermark_ns: int) -> Scored:
        """Move to a tick's watermark; the scores of the patients that are due."""
        if watermark_ns < self.watermark_ns:
            self._set_back(watermark_ns)
        self.watermark_ns = watermark_ns
        due = np.flatnonzero(self._inputs.due_ns[: len(self._tokens)] <= watermark_ns)
        scored = _unscored(watermark_ns, tuple(self._tokens[number] for number in due.tolist()), due)
        if not len(due):
            return scored
        found = self._gather(due)
        self._inputs.evaluated_ns[due] = watermark_ns
        soonest_ns = np.maximum(found.until_ns, watermark_ns + EVERY_NS)
        self._inputs.due_ns[due] = soonest_ns
        programmes = self._inputs.programme[due]
        for programme in np.unique(programmes).tolist():
            where = np.flatnonzero(programmes == programme)
            of_programme = Gathered(*(column[..., where] for column in found))
            _fill(scored, where, self._score(due[where], of_programme, programme))
        return scored

    def explain(self, patient: str) -> str:
        """What is certain of a patient's score in words, at the last tick; ``KeyError`` for one who is not scored."""
        dense = self._dense[patient]
        programme = int(self._inputs.programme[dense])
        if programme < 0:
            raise KeyError(patient)
        one = np.array([dense])
        return words.explain(self._score(one, self._gather(one), programme), 0, floor=True).text

    def _first_ns(self) -> int:
        """Samples before this have left every window."""
        return NO_TIME + 1 if self.watermark_ns == NO_TIME else self.watermark_ns - WINDOW_NS

    def _gather(self, chosen: Int64) -> Gathered:
        out = gathered(len(chosen))
        load().gather(self._inputs, chosen, self._continuous, self._staleness_ns, KINDS, self.watermark_ns, out)
        return out

    def _score(self, chosen: Int64, found: Gathered, programme: int) -> News2:
        """``found`` (sources, n) of the patients ``chosen`` (n,), who are of one programme."""
        columns = {
            key: VitalColumn(found.value[place], found.time_ns[place], found.flags[place])
            for place, key in enumerate(KEYS)
        }
        age_band, pregnancy, spo2_scale, usual_confusion = self._context[:, chosen]
        context = ContextColumns(age_band, pregnancy, spo2_scale, usual_confusion.astype(np.bool_))
        return news2(columns, context, self.watermark_ns, self._programmes[programme])

    def _set_back(self, watermark_ns: int) -> None:
        """The gateway's clock was set back: nobody waits for times that were ahead of it."""
        inputs = self._inputs
        # What had left every window stays out, as in a snapshot of before.
        inputs.sample_ns[inputs.sample_ns < self._first_ns()] = NO_TIME
        np.minimum(inputs.evaluated_ns, watermark_ns, out=inputs.evaluated_ns)
        known = (inputs.programme >= 0) & (inputs.time_ns != NO_TIME).any(axis=1)
        inputs.due_ns[known] = np.minimum(inputs.due_ns, inputs.evaluated_ns + EVERY_NS)[known]

    def _admit(self, patient: str) -> int:
        dense = self._dense.get(patient)
        if dense is not None:
            return dense
        dense = self._dense[patient] = len(self._tokens)
        self._tokens.append(patient)
        if dense == len(self._inputs.programme):
            self._grow(_PATIENT_COLUMNS, 2 * dense)
            self._context = np.concatenate([self._context, np.zeros_like(self._context)], axis=1)
        return dense

    def _grow(self, names: Sequence[str], size: int) -> None:
        self._inputs = self._inputs._replace(**{name: grown(getattr(self._inputs, name), size, name) for name in names})

    def _add_ring(self, dense: int, source: int) -> None:
        if self._rings == len(self._inputs.sample_ns):
            self._grow(_SAMPLE_COLUMNS, 2 * self._rings)
        self._inputs.ring[dense, source] = self._rings
        self._rings += 1

    def _end(self, dense: int) -> None:
        inputs = self._inputs
        inputs.programme[dense], inputs.due_ns[dense] = -1, NEVER
        inputs.time_ns[dense], inputs.value[dense], inputs.flags[dense] = NO_TIME, np.nan, 0
        rings = inputs.ring[dense]
        inputs.sample_ns[rings[rings >= 0]] = NO_TIME

    def _programme(self, score: CompiledScore) -> int:
        """The number of what a score needs, given at first sight."""
        if score in self._rules:
            return self._rules.index(score)
        modes = {key: Mode.CONTINUOUS if continuous else Mode.SPOT for key, continuous in score.measures}
        programme = Programme(modes, score.assume_air, score.assume_alert)
        self._rules.append(score)
        self._programmes.append(programme)
        modes_of = [programme.mode(key) for key in KEYS]
        continuous = (np.array(modes_of) == Mode.CONTINUOUS) & (KINDS == MEASURED)
        staleness = [BY_KEY[key].staleness_ns(mode) for key, mode in zip(KEYS, modes_of, strict=True)]
        self._continuous = np.vstack([self._continuous, continuous])
        self._staleness_ns = np.vstack([self._staleness_ns, staleness])
        return len(self._rules) - 1

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes. Samples that left every window are left
        out."""
        size, inputs = len(self._tokens), self._inputs
        ring, slot = np.nonzero(inputs.sample_ns[: self._rings] >= self._first_ns())
        samples = {name: getattr(inputs, name)[ring, slot] for name in _SAMPLE_COLUMNS}
        return {
            "watermark_ns": self.watermark_ns, "tokens": self._tokens, "rules": self._rules, "rings": self._rings,
            "columns": {name: getattr(inputs, name)[:size].tobytes() for name in _PATIENT_COLUMNS},
            "context": self._context[:, :size].tobytes(),
            "samples": {"ring": ring.tobytes(), **{name: column.tobytes() for name, column in samples.items()}},
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "ScoreTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        for measures, assume_air, assume_alert in state["rules"]:
            table._programme(
                CompiledScore(tuple((key, bool(mode)) for key, mode in measures), assume_air, assume_alert)
            )
        for token in state["tokens"]:
            table._admit(token)
        table.watermark_ns, table._rings, size = state["watermark_ns"], state["rings"], len(table._tokens)
        table._inputs = blank(len(table._inputs.programme), max(table._rings, _FIRST))
        for name in _PATIENT_COLUMNS:
            column = getattr(table._inputs, name)[:size]
            column[:] = np.frombuffer(state["columns"][name], DTYPES[name]).reshape(column.shape)
        table._context[:, :size] = np.frombuffer(state["context"], np.uint8).reshape(len(_CONTEXT_COLUMNS), size)
        stored = state["samples"]
        ring, sample_ns = (np.frombuffer(stored[name], "<i8") for name in ("ring", "sample_ns"))
        if len(ring) and not 0 <= ring.min() <= ring.max() < table._rings:
            raise ValueError("samples of a ring that is not there")
        for name in _SAMPLE_COLUMNS:
            getattr(table._inputs, name)[ring, sample_ns // SAMPLE_NS % SAMPLES] = np.frombuffer(
                stored[name], DTYPES[name]
            )
        return table


def score_rows(scored: Scored) -> VitalBatch:
    """What is stored: ``news2`` of a complete score, ``news2_min`` and ``news2_max`` of one that lacks parts, and
    ``news2_red``; nothing of one that is refused or hidden.

    A reading is identified by the time of its score and the patient's number. Context, where there is any:
    ``{"assumed": [...], "missing": [...]}`` with keys of :class:`Parameter`.
    """
    shown = np.flatnonzero(scored.applies & ~scored.hidden)
    complete, size = scored.complete[shown], len(shown)
    kept = np.ones((size, 3), np.bool_)
    kept[:, 1] = ~complete
    first = np.where(complete, _CODES["news2"], _CODES["news2_min"])
    vital = np.column_stack([first, np.full((size, 2), [_CODES["news2_max"], _CODES["news2_red"]])])[kept]
    value = np.column_stack([scored.low[shown], scored.high[shown], scored.red[shown]])[kept].astype(np.float64)
    whose = np.broadcast_to(shown[:, None], kept.shape)[kept]
    missing, assumed = scored.missing[whose], scored.assumed[whose]
    context = {
        row: {"assumed": _WORDS[assumed[row]], "missing": _WORDS[missing[row]]}
        for row in np.flatnonzero(missing | assumed).tolist()
    }
    known: dict[str, Any] = {
        "patient": whose, "vital": vital, "source_time_ns": scored.at_ns, "seq": scored.number[whose],
        "time_ns": scored.at_ns, "end_ns": NO_TIME, "basis": Basis.RECEIVED, "value": value, "reported": value,
        "unit": _UNIT, "message": -1, "received_ns": scored.at_ns,
    }  # fmt: skip
    columns: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(known.get(name, 0), dtype), len(value)) for name, dtype in COLUMNS.items()
    }
    return VitalBatch((DEVICE,), scored.patients, **columns, context=context)


def rule_rows(scored: Scored) -> Rows:
    """What rules judge, over the vocabulary ``scored.patients``: ``news2`` and ``news2_red`` of what applies.

    Of a score that lacks parts they are what is certain, with ``Flag.ESTIMATED``; one that is hidden has such rows too.
    """
    whose = np.flatnonzero(scored.applies)
    value = np.column_stack([scored.low[whose], scored.red[whose]]).ravel()
    known: dict[str, Any] = {
        "patient": np.repeat(whose, 2), "vital": np.tile([_CODES["news2"], _CODES["news2_red"]], len(whose)),
        "time_ns": scored.at_ns, "basis": Basis.RECEIVED, "value": value, "message": -1,
        "flags": np.repeat(np.where(scored.complete[whose], 0, Flag.ESTIMATED), 2), "source_time_ns": scored.at_ns,
        "seq": np.repeat(scored.number[whose], 2), "received_ns": scored.at_ns,
    }  # fmt: skip
    columns = {name: np.full(len(value), known.get(name, 0), dtype) for name, dtype in ROW_DTYPES.items()}
    for column in columns.values():
        column.flags.writeable = False
    return Rows(**columns)
