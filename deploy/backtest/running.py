"""Backtests beside a running pipeline: each rule set in a separate process, with low priority.

The readings are read once and sent to both processes as log entries; pipes hold the reader up when a process is slower,
so memory stays bounded. A process whose reader is gone ends. Run as ``python -m deploy.backtest.running`` it is such a
process.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any, Final

import msgspec
import numpy as np

from alerts.backtest.run import Coverage, RuleSet, RuleSetOutcome, RuleSetReplay, Span
from vitals.encoding import decode, encode
from vitals.errors import BackendError, InvalidRequest
from vitals.model import VitalBatch

NICE: Final = 10
_FRAME: Final = struct.Struct("<Q")


class _Order(msgspec.Struct, array_like=True):
    """What a process is to replay."""

    rules: RuleSet
    span: Span
    patients: tuple[str, ...]


class _Answer(msgspec.Struct, array_like=True):
    """What came of it; ``refused`` is (field, problem)."""

    outcome: RuleSetOutcome | None = None
    refused: tuple[str, str] | None = None


_order = msgspec.msgpack.Decoder(_Order)
_answer = msgspec.msgpack.Decoder(_Answer)


class Workers:
    """One process per rule set; to be closed."""

    def __init__(self, rules: Sequence[RuleSet], span: Span, patients: Sequence[str]) -> None:
        command = [sys.executable, "-m", "deploy.backtest.running"]
        self._processes = []
        with ExitStack() as opening:
            opening.callback(self.close)
            for rule_set in rules:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._processes.append(process)
                _send(process.stdin, msgspec.msgpack.encode(_Order(rule_set, span, tuple(patients))))
            opening.pop_all()

    def run(
        self, batches: Iterable[VitalBatch], coverage: Coverage, reached: Callable[[int], None]
    ) -> list[RuleSetOutcome]:
        """Replay; ``reached`` is told how far, as a time of arrival.

        Raises:
            InvalidRequest: the rules say too much.
            BackendError: a process ended before its work was done.
        """
        # A process that refuses stops reading: its answer says why.
        with suppress(BrokenPipeError):
            for batch in batches:
                frame = encode(batch)
                for process in self._processes:
                    _send(process.stdin, frame)
                coverage.feed(batch)
                reached(int(batch.received_ns[-1]))
            for process in self._processes:
                _send(process.stdin, b"")
        return [self._outcome(process) for process in self._processes]

    def _outcome(self, process: "subprocess.Popen[bytes]") -> RuleSetOutcome:
        frame = _receive(process.stdout)
        if not frame:
            raise BackendError("a backtest process ended before its work was done", retryable=True)
        found = _answer.decode(frame)
        if found.refused is not None:
            raise InvalidRequest(*found.refused)
        assert found.outcome is not None
        return found.outcome

    def abort(self) -> None:
        """End the processes: ``run`` fails. Safe from another thread."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """End the processes and their pipes."""
        self.abort()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()


def _send(pipe: IO[bytes] | None, frame: bytes) -> None:
    assert pipe is not None
    pipe.write(_FRAME.pack(len(frame)))
    pipe.write(frame)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes:
    """The next frame; empty at the end."""
    assert pipe is not None
    head = pipe.read(_FRAME.size)
    return pipe.read(*_FRAME.unpack(head)) if len(head) == _FRAME.size else b""


def _aligned(batch: VitalBatch) -> VitalBatch:
    """Columns of a frame begin anywhere: once copied, parts of them need no copy of their own."""
    columns: dict[str, Any] = {name: np.array(column) for name, column in batch.columns().items()}
    return batch.replace(**columns)


def work(source: IO[bytes], sink: IO[bytes]) -> None:
    """One replay: an order, batches, an empty frame; then its answer. Ends without one when the source breaks off."""
    order = _order.decode(_receive(source))
    try:
        replay = RuleSetReplay(order.rules, order.span, order.patients)
        while True:
            head = source.read(_FRAME.size)
            if len(head) < _FRAME.size:
                return
            (size,) = _FRAME.unpack(head)
            if not size:
                break
            batch = decode(source.read(size))
            assert isinstance(batch, VitalBatch)
            replay.feed(_aligned(batch))
        answer = _Answer(outcome=replay.finish())
    except InvalidRequest as error:
        answer = _Answer(refused=(error.field, str(error).removeprefix(f"{error.field}: ")))
    _send(sink, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    os.nice(NICE)
    work(sys.stdin.buffer, sys.stdout.buffer)
