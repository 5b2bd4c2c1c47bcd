"""Metrics that are read when asked for."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alerts.service import Observation
from deploy.watch.status import Status
from deploy.wiring import Core
from ingest.metrics import STAGE_BUCKETS
from vitals.canary import is_canary


class AlertMeters:
    """Latency from the gateway's receipt to the alert in the book."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._latency = Histogram(
            "vitalgate_device_to_alert_seconds", "Time from receipt of the reading to its alert in the book",
            buckets=STAGE_BUCKETS, registry=registry,
        )  # fmt: skip

    def observe(self, seen: Observation) -> None:
        """Take in one recorded event."""
        if seen.latency_s is not None and not is_canary(seen.event.patient):
            self._latency.observe(seen.latency_s)


class CoreCollector(Collector):
    """Gauges over the core's own state."""

    def __init__(self, core: Core, status: Status) -> None:
        self._core, self._status = core, status

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: the values come from open backends."""
        return []

    def collect(self) -> Iterable[Metric]:
        """In-flight messages, log lags, evaluated-to, the canary, alerts by severity and state."""
        conservation = self._status.conservation()
        yield GaugeMetricFamily(
            "vitalgate_in_flight_messages", "Messages received and not yet decoded", conservation.messages.in_flight
        )
        lag = GaugeMetricFamily(
            "vitalgate_log_lag_seconds", "Age of the oldest entry that a consumer has not passed",
            labels=("stream", "consumer"),
        )  # fmt: skip
        for item in self._status.lags():
            lag.add_metric((item["stream"], item["consumer"]), item["seconds"])
        yield lag
        yield GaugeMetricFamily(
            "vitalgate_evaluated_to_timestamp_seconds", "Everything received before this time has been evaluated",
            self._core.book.evaluated_to_ns() / 1e9,
        )  # fmt: skip
        if (proof := self._status.proof) is not None:
            yield GaugeMetricFamily(
                "vitalgate_canary_last_success_timestamp_seconds", "When the check from end to end was last answered",
                proof.at_ns / 1e9,
            )  # fmt: skip
            yield GaugeMetricFamily(
                "vitalgate_canary_seconds", "Time from publishing the last such reading to its alert in the book",
                proof.seconds,
            )  # fmt: skip
        alerts = GaugeMetricFamily("vitalgate_alerts", "Alerts by severity and state", labels=("severity", "state"))
        for (severity, state), count in self._core.book.counts().items():
            alerts.add_metric((severity.name, state.value), count)
        yield alerts
