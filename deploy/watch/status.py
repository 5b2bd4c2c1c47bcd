"""Readiness, rates, lags and metrics of the core, sampled each second."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from prometheus_client import generate_latest

from deploy.watch.canary import Canary, Proof
from deploy.watch.page import merge
from deploy.watch.watchdog import Watchdog
from deploy.wiring import CLOCK, Core
from vitals.records import Ledger, total
from vitals.times import rfc3339
from vitals.visibility import shown_in

SAMPLE_S = 1.0
WARM_LOOK_S = 0.25
RATE_WINDOW_S = 60
STATUS_TIMEOUT_S = 1.0


class Status:
    """What readiness, ``system`` and metrics say, sampled each second."""

    def __init__(self, core: Core, died: list[str], http: str, mqtt: str, watchdog: Watchdog, canary: Canary) -> None:
        self._core, self._died, self._http, self._mqtt = core, died, http, mqtt
        self._watchdog, self._canary = watchdog, canary
        self._gateway: dict[str, Any] = {"ready": False, "reasons": ["gateway_unreachable"], "metrics": ""}
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=RATE_WINDOW_S + 1)
        self.warm = threading.Event()
        """Set once the alert engine's kernels are there."""

    async def sample(self) -> None:
        """Ask the gateway and count, once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._gateway = await self._ask_gateway()
            total = await loop.run_in_executor(None, self.conservation)
            self._samples.append((loop.time(), total.messages.received, total.readings.stored))
            await asyncio.sleep(SAMPLE_S)

    async def _ask_gateway(self) -> dict[str, Any]:
        unreachable = {"ready": False, "reasons": ["gateway_unreachable"], "metrics": ""}
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._core.layout.gateway_status))
                line = await reader.read()
                writer.close()
                await writer.wait_closed()
            answer = json.loads(line)
        except (OSError, TimeoutError, ValueError):
            return unreachable
        return answer if isinstance(answer, dict) else unreachable

    @property
    def proof(self) -> Proof | None:
        """The canary's last answer."""
        return self._canary.proof

    def conservation(self) -> Ledger:
        """Both ledgers, summed over all devices."""
        return total(self._core.ingest.ledgers())

    def reasons(self) -> list[str]:
        """Why the system is not ready, or does not do its work in time; empty when it does."""
        late = [("evaluated_late", self._watchdog.late), ("canary_failing", self._canary.failing)]
        return self.unready() + [reason for reason, holds in late if holds]

    def once_warm(self, run: Callable[[threading.Event], None]) -> Callable[[threading.Event], None]:
        """A loop that begins once the kernels are there."""

        def wait(stop: threading.Event) -> None:
            while not stop.is_set():
                if self.warm.wait(WARM_LOOK_S):
                    return run(stop)
            return None

        return wait

    def unready(self) -> list[str]:
        """What still has to start, or cannot go on."""
        return ([] if self.warm.is_set() else ["warming"]) + self.closed()

    def closed(self) -> list[str]:
        """Why readings cannot be taken, or the page not be served; alerts may be warming up."""
        found = list(self._gateway["reasons"]) or ([] if self._gateway["ready"] else ["gateway_not_ready"])
        problems = (self._core.ingest.problem, self._core.writer.problem)
        return found + [problem for problem in problems if problem] + [f"{name}_died" for name in self._died]

    def metrics(self) -> str:
        """The metrics of core and gateway as one Prometheus page."""
        return merge(generate_latest(self._core.meters).decode(), self._gateway["metrics"])

    def lags(self) -> list[dict[str, Any]]:
        """How far each consumer is behind its log, in entries and seconds."""
        core = self._core
        pairs = (
            ("raw", "ingest", core.raw, core.ingest.position),
            ("vitals", "store", core.log, core.writer.position),
            ("vitals", "alerts", core.log, core.book.position()),
        )
        found = []
        for stream, consumer, log, position in pairs:
            oldest = log.read(position, limit=1)
            behind_s = max(0.0, (CLOCK.now_ns() - oldest[0].appended_ns) / 1e9) if oldest else 0.0
            entries = max(0, log.end() - position)
            found.append({"stream": stream, "consumer": consumer, "entries": entries, "seconds": behind_s})
        return found

    def system(self) -> dict[str, Any]:
        """The ``system`` route."""
        first, last = (self._samples[0], self._samples[-1]) if self._samples else ((0.0, 0, 0), (0.0, 0, 0))
        seconds = last[0] - first[0]
        ledger = self.conservation()
        rates = {
            name: (last[column] - first[column]) / seconds if seconds > 0 else 0.0
            for name, column in (("messages_per_s", 1), ("stored_per_s", 2))
        }
        return {
            "http": self._http,
            "mqtt": self._mqtt,
            "ready": not self.reasons(),
            "reasons": self.reasons(),
            "rates": rates,
            "lags": self.lags(),
            "conservation": {
                "messages": _fields(ledger.messages),
                "readings": _fields(ledger.readings),
                "shown": {where.value: count for where, count in shown_in([ledger]).items()},
            },
            "canary": self._checked(),
        }

    def _checked(self) -> dict[str, Any] | None:
        """The last check from end to end; None where there are none."""
        settings, proof = self._core.settings.alerts, self.proof
        if not settings.canary:
            return None
        due_ns = int((2 * settings.canary_every_s + settings.canary_s) * 1e9)
        late = self._canary.failing or (proof is not None and CLOCK.now_ns() - proof.at_ns > due_ns)
        answered = {"last_success": None if proof is None else rfc3339(proof.at_ns)}
        return answered | {"seconds": None if proof is None else proof.seconds, "late": late}


def _fields(struct: Any) -> dict[str, int]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
