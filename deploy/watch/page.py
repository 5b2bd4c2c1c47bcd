"""The metrics pages of two processes as one."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Page(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge(first: str, second: str) -> str:
    """Merge two Prometheus pages: families of the same name become one."""
    families: dict[str, Metric] = {}
    for page in (first, second):
        for family in text_string_to_metric_families(page):
            kept = families.setdefault(family.name, family)
            if kept is not family:
                kept.samples.extend(family.samples)
    joined = CollectorRegistry()
    joined.register(_Page(families.values()))
    return generate_latest(joined).decode()
