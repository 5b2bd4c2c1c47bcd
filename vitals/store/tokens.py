"""Tokens as the integers that a store file keeps."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


class Tokens:
    """Tokens of one kind as integers. ``names`` may be ahead of the file, ``ids`` never is."""

    def __init__(self, rows: Sequence[tuple[int, str]]) -> None:
        self.names = dict(rows)
        self.ids = {token: number for number, token in rows}
        self._next = max(self.names, default=-1) + 1

    def number(
        self, vocabulary: Sequence[str], column: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], dict[str, int]]:
        """``column``'s indices into ``vocabulary`` as the file's numbers, and the tokens that are new to the file.

        New names are known at once: a reader may see the committed rows before ``keep`` is called.
        """
        used = np.unique(column).tolist()
        fresh = [token for token in dict.fromkeys(vocabulary[index] for index in used) if token not in self.ids]
        assigned = {token: self._next + offset for offset, token in enumerate(fresh)}
        self.names.update({number: token for token, number in assigned.items()})
        numbers = np.zeros(len(vocabulary), dtype=np.int32)
        numbers[used] = [self.ids.get(vocabulary[i], assigned.get(vocabulary[i], 0)) for i in used]
        return numbers[column], assigned

    def keep(self, assigned: Mapping[str, int]) -> None:
        """The transaction that holds ``assigned`` is on disk."""
        self.ids.update(assigned)
        self._next += len(assigned)
