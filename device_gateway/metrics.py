"""The gateway's numbers as Prometheus families (CONTRACTS, Metrics)."""

from collections.abc import Iterator, Sized
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from device_gateway.batcher import STAGE_BOUNDS_S
from device_gateway.intake import Intake


class GatewayMetrics(Collector):
    """Reads the counters that intake and batcher keep anyway: nothing is paid per message. ``sessions`` are the devices
    signed in over MQTT."""

    def __init__(self, intake: Intake, sessions: Sized) -> None:
        self._intake, self._sessions = intake, sessions
        self.registry: Final = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> list[CounterMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        yield GaugeMetricFamily("vitalgate_connections", "Sessions connected now", value=len(self._sessions))
        failures = CounterMetricFamily(
            "vitalgate_auth_failures_total", "Sign-ins refused, by reason", labels=("reason",)
        )
        for decision, count in self._intake.refused.items():
            failures.add_metric((decision.value,), count)
        yield failures
        closed = CounterMetricFamily(
            "vitalgate_connections_closed_total", "Connections that the gateway refused or ended", labels=("reason",)
        )
        for reason, count in self._intake.closed.items():
            closed.add_metric((reason,), count)
        yield closed
        refused = CounterMetricFamily(
            "vitalgate_publishes_refused_total", "Publishes answered with a refusal, by reason", labels=("reason",)
        )
        for reason, count in self._intake.publishes_refused.items():
            refused.add_metric((reason,), count)
        yield refused
        yield CounterMetricFamily(
            "vitalgate_rate_pauses_total", "Times that a connection was not read for its device's rate",
            value=self._intake.rate_pauses,
        )  # fmt: skip
        yield CounterMetricFamily(
            "vitalgate_admissions_delayed_total", "Connections that waited to be admitted", value=self._intake.delayed
        )
        received = CounterMetricFamily(
            "vitalgate_messages_received_total", "Messages taken in, by QoS", labels=("qos",)
        )
        for qos, count in enumerate(self._intake.received):
            received.add_metric((str(qos),), count)
        yield received
        yield from self._mllp()
        buckets, total = [], 0
        for bound, count in zip((*STAGE_BOUNDS_S, "+Inf"), self._intake.batcher.latency_counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        stages = HistogramMetricFamily("vitalgate_stage_seconds", "Time per stage of the pipeline", labels=("stage",))
        stages.add_metric(("durable",), buckets, self._intake.batcher.latency_sum_s)
        yield stages

    def _mllp(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "vitalgate_mllp_connections", "MLLP connections now", value=self._intake.mllp_connections
        )
        answered = CounterMetricFamily(
            "vitalgate_mllp_messages_total", "HL7 messages over MLLP, by acknowledgement code and reason",
            labels=("code", "reason"),
        )  # fmt: skip
        for (code, reason), count in self._intake.mllp_answers.items():
            answered.add_metric((code, reason), count)
        yield answered

    def text(self) -> str:
        """The Prometheus text format."""
        return generate_latest(self.registry).decode()
