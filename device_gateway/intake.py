"""What every door of the gateway (MQTT, HTTP, HL7) hands its messages to, and what all doors count.

::

    mqtt/  http.py  hl7/        doors: bytes to messages, answers to their clients
         intake.py              limits, sign-in, rates, counters
    access.py  rates.py  batcher.py
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from device_gateway.access import Access, SignIn
from device_gateway.batcher import Accept, Batcher
from device_gateway.rates import Meter
from device_gateway.settings import GatewaySettings
from vitals.ports import Clock

_AUTH_FAILURES: Final = (SignIn.BAD_CREDENTIALS, SignIn.REVOKED, SignIn.TOO_MANY_FAILURES)


class Intake:
    """Settings, access, clock and batcher of the gateway, and the numbers of all its doors. Make it on the loop.

    ``received`` counts messages by QoS, ``refused`` sign-ins by reason, ``closed`` connections that the gateway ended
    or did not take by reason, ``publishes_refused`` what was answered with a reason instead of taken, ``rate_pauses``
    how often a connection was not read for its device's rate, ``delayed`` connections that waited to be admitted,
    ``mllp_connections`` MLLP connections now, ``mllp_answers`` HL7 messages by acknowledgement code and reason.
    """

    def __init__(self, settings: GatewaySettings, access: Access, clock: Clock, batcher: Batcher) -> None:
        self.settings, self.access, self.clock, self.batcher = settings, access, clock, batcher
        self.loop = asyncio.get_running_loop()
        self.received = [0, 0, 0]
        self.refused = dict.fromkeys(_AUTH_FAILURES, 0)
        self.closed: Counter[str] = Counter()
        self.publishes_refused: Counter[str] = Counter()
        self.rate_pauses = self.delayed = self.mllp_connections = 0
        self.mllp_answers: Counter[tuple[str, str]] = Counter()
        self._meters: dict[str, Meter] = {}

    def signed_in(self, outcome: SignIn) -> None:
        """Count a sign-in of which the client is told the outcome."""
        if outcome in self.refused:
            self.refused[outcome] += 1

    def meter(self, device: str) -> Meter:
        """What a device has sent, over all its connections."""
        meter = self._meters.get(device)
        if meter is None:
            meter = self._meters[device] = Meter(self.settings.rate_per_s, self.settings.burst)
        return meter

    def forget_meters(self, connected: Collection[str], now_s: float) -> None:
        """Forget the meters of devices that owe nothing and are not in ``connected``: an MQTT connection keeps the
        meter that it was given."""
        self._meters = {name: one for name, one in self._meters.items() if name in connected or not one.idle(now_s)}

    def take(self, device: str, entries: Sequence[Accept]) -> asyncio.Event:
        """Offer to the log what ``device`` delivers at least once, like QoS 1; the event is set when it is durable."""
        for entry in entries:
            self.batcher.accept(entry)
        self.received[1] += len(entries)
        self.meter(device).take(len(entries), self.loop.time())
        durable = asyncio.Event()
        self.batcher.when_durable(durable.set)
        return durable
