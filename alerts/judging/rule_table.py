"""Rules, faces and names, each kept once for all patients; a row is never reused."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.judging.state import RULE_DTYPES, Rules
from alerts.rules.arrest import EXTREME_NS, EXTREME_OF, arrest_line
from alerts.rules.limits import Side
from alerts.rules.spec import Kind, RuleFace, RuleSpec
from vitals.catalog import VITALS, table
from vitals.glossary import Severity

_FIRST_RULES: Final = 64
_SINCE_6: Final = ("often", "often_of", "often_ns", "steep")


class RuleTable:
    """``rules`` is what the kernels take; the first ``size`` rows are in use."""

    def __init__(self) -> None:
        self.size = 0
        self.rules = Rules(**{name: np.zeros(_FIRST_RULES, dtype=dtype) for name, dtype in RULE_DTYPES.items()})
        self._rows: dict[RuleSpec, int] = {}
        self._faces: dict[RuleFace, int] = {}
        self._names: dict[str, int] = {}
        self._face_list: list[RuleFace] = []

    @property
    def names(self) -> int:
        """How many names there are."""
        return len(self._names)

    def intern(self, spec: RuleSpec) -> int:
        """The row of a spec."""
        row = self._rows.get(spec)
        if row is not None:
            return row
        if self.size == len(self.rules.kind):
            self.rules = Rules(*(_doubled(column) for column in self.rules))
        row = self._rows[spec] = self.size
        self.size += 1
        for column, value in zip(self.rules, spec, strict=True):
            column[row] = value
        return row

    def intern_face(self, face: RuleFace) -> int:
        """The row of a face."""
        row = self._faces.setdefault(face, len(self._face_list))
        if row == len(self._face_list):
            self._face_list.append(face)
        return row

    def intern_name(self, name: str) -> int:
        """The number of a rule's name."""
        return self._names.setdefault(name, len(self._names))

    def spec(self, row: int) -> RuleSpec:
        """A row as it was interned."""
        return RuleSpec(*(column[row].item() for column in self.rules))

    def face(self, row: int) -> RuleFace:
        """A face."""
        return self._face_list[row]

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = {name: column[: self.size].tobytes() for name, column in self.rules._asdict().items()}
        return {"columns": columns, "faces": [list(face) for face in self._face_list], "names": list(self._names)}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "RuleTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        stored = {name: np.frombuffer(data, dtype=RULE_DTYPES[name]) for name, data in state["columns"].items()}
        if "extreme" not in stored:
            stored |= _without_urgency(stored)
        if "often" not in stored:
            # Rules of version 5 neither count n of m nor have steep slopes.
            stored |= {name: np.zeros(len(stored["kind"]), RULE_DTYPES[name]) for name in _SINCE_6}
        for row in zip(*(stored[name].tolist() for name in RULE_DTYPES), strict=True):
            table.intern(RuleSpec(*row))
        for face in state["faces"]:
            table.intern_face(RuleFace(*face))
        for name in state["names"]:
            table.intern_name(name)
        return table


def _without_urgency(stored: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The lines of urgency of rules of a snapshot that had none (version 4)."""
    low = stored["side"] == Side.LOW
    own = low & (stored["patient_limit"] != 0) & (stored["severity"] == Severity.S1) & (stored["kind"] == Kind.LIMIT)
    lines = table(-np.inf, {vital.code: arrest_line(vital.key) for vital in VITALS})[stored["vital"]]
    never = np.where(low, -np.inf, np.inf)
    arrest = np.where(own, lines, never)
    steady = own & ((stored["continuous"] != 0) | (stored["on_delay_ns"] > 0))
    return {
        "extreme": arrest, "arrest": arrest, "lone": never,
        "extreme_of": np.where(steady, EXTREME_OF, 1), "extreme_ns": np.where(steady, EXTREME_NS, 0),
    }  # fmt: skip


def _doubled(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([column, np.zeros_like(column)])
