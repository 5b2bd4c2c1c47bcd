"""The gateway as a program, for tests that kill it: ``python -m tests.gateway.gateway_process FOLDER MQTT MLLP``, the
latter descriptors of listening sockets."""

import asyncio
import signal
import sys
from pathlib import Path

import structlog
import uvloop

from device_gateway.hl7.mllp import MllpEndpoint
from device_gateway.service import GatewaySettings, serve
from tests.gateway import harness


async def _main(folder: Path, mqtt: int, mllp: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    log = harness.raw_log(folder)

    def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    sockets = [harness.descriptor_socket(mqtt)]
    hl7 = MllpEndpoint([harness.descriptor_socket(mllp)], default_device="d1")
    await serve(log, harness.registry(), harness.WallClock(), sockets, GatewaySettings(), ready, stop, None, mllp=hl7)
    log.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
