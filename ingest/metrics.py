"""Ingest's metrics. Labels are adapters, results and reasons: never a patient, device or message."""

from collections import Counter as Tallied

from prometheus_client import CollectorRegistry, Counter, Histogram

from ingest.journal.tally import COUNTS
from ingest.pipeline import Outcome

STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0)
_MESSAGES = ("decoded", "duplicate")
_READINGS = {"emitted": "emitted", "repeated": "duplicate", "revision": "revision", "unassigned": "unassigned"}


class IngestMetrics:
    """Counters and stage latencies of ingest and the store writer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Counter(
            "vitalgate_messages", "Messages by what became of them", ("adapter", "result", "reason"), registry=registry
        )
        self._readings = Counter(
            "vitalgate_readings", "Readings by what became of them", ("adapter", "result"), registry=registry
        )
        self._ignored = Counter(
            "vitalgate_unknown_members", "Members of payloads that no adapter field reads", ("adapter",),
            registry=registry,
        )  # fmt: skip
        self._left_out = Counter(
            "vitalgate_members_left_out", "Members that only add context to a reading and cannot be read",
            ("adapter",), registry=registry,
        )  # fmt: skip
        self.stage = Histogram(
            "vitalgate_stage_seconds", "Time from receipt to the end of a stage", ("stage",), buckets=STAGE_BUCKETS,
            registry=registry,
        )  # fmt: skip

    def outcome(self, adapter: str, out: Outcome) -> None:
        """Count one adapter's part of a cycle."""
        totals = {name: out.tally.total(name) for name in COUNTS}
        for name in _MESSAGES:
            if totals[name]:
                self._messages.labels(adapter, name, "").inc(totals[name])
        for reason, number in Tallied(item.reason for item in out.held).items():
            self._messages.labels(adapter, "quarantined", reason.value).inc(number)
        for name, result in _READINGS.items():
            if totals[name]:
                self._readings.labels(adapter, result).inc(totals[name])
        if out.unknown_members:
            self._ignored.labels(adapter).inc(out.unknown_members)
        if out.left_out:
            self._left_out.labels(adapter).inc(out.left_out)
