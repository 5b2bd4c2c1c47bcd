"""Entry point of the supervisor's children: ``python -m deploy.processes.entry ORDER`` with ORDER as JSON.

A child serves on the listening socket it was given, writes one line of JSON to its ready pipe, and ends on SIGTERM or
when its life line closes.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import uvloop

from deploy import kernels, logs, settings
from deploy.layout import PRIVATE_UMASK, Layout
from deploy.processes.order import CONFIG_EXIT, Order
from vitals.errors import BackendError, ConfigError
from vitals.steady import SteadyClock


def watch(stop: asyncio.Event, life_fd: int) -> None:
    """Set ``stop`` on SIGTERM, SIGINT, or when the life line closes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def gone() -> None:
        loop.remove_reader(life_fd)
        stop.set()

    loop.add_reader(life_fd, gone)


def raise_descriptor_limit() -> None:
    """A connection is a descriptor: as many as the machine allows, not as many as the shell was set to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sockets(fd: int) -> list[socket.socket]:
    """The listening socket that was passed on as ``fd``; none for -1."""
    return [socket.socket(fileno=fd)] if fd >= 0 else []


async def run_gateway(order: Order, layout: Layout, config: settings.Settings) -> None:
    """The gateway process."""
    from deploy.wiring import open_raw_log, open_registry, open_vault  # noqa: PLC0415 - a child loads its half only
    from device_gateway.service import serve  # noqa: PLC0415

    raise_descriptor_limit()
    stop = asyncio.Event()
    watch(stop, order.life_fd)
    log = open_raw_log(layout, open_vault(layout, config), read_only=False)
    registry = open_registry(layout)
    try:
        tls = config.mqtt.tls(sockets(order.tls_fd)) if order.tls_fd >= 0 else None
        mllp = config.hl7.endpoint(sockets(order.mllp_fd), sockets(order.mllps_fd))
        await serve(
            log, registry, SteadyClock(follows=False), sockets(order.listen_fd), config.gateway_settings(),
            lambda: order.tell_ready({}), stop, layout.gateway_status, tls=tls, ingest_socket=layout.ingest, mllp=mllp,
        )  # fmt: skip
    finally:
        registry.close()
        log.close()


async def run_core(order: Order, layout: Layout, config: settings.Settings) -> None:
    """The core process."""
    from deploy.processes.core import serve_core  # noqa: PLC0415 - a child loads its half only

    stop = asyncio.Event()
    watch(stop, order.life_fd)
    await serve_core(order, layout, config, stop)


def main() -> int:
    """Run the ordered process; the exit code of a configuration error is 3."""
    order = Order(**json.loads(sys.argv[1]))
    logs.configure(order.name)
    os.umask(PRIVATE_UMASK)
    layout = Layout(Path(order.root))
    if order.name == "core":
        # The supervisor chose the folder; it may have been damaged since.
        kernels.use(layout.root)
    try:
        config = settings.load(Path(order.config) if order.config else None)
        run = run_gateway if order.name == "gateway" else run_core
        with layout.lock(order.name):
            uvloop.run(run(order, layout, config))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG_EXIT
    except BackendError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
