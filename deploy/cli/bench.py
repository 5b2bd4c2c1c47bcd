"""Commands that measure: load, bench."""

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import kernels
from deploy.cli.shared import AsJson, ConfigFile, DataDir, locate, show
from deploy.layout import DEFAULT_DATA_DIR, Layout
from vitals.errors import BackendError, InvalidRequest

if TYPE_CHECKING:
    from simulators.load import Credential

NAMES = ("gateway", "store", "engine", "adapters", "e2e", "import", "backtest")


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.command("load", epilog="Example: vitalgate load --mqtt 127.0.0.1:1883 --connections 100 --rate 1000")(load)
    app.command("bench", epilog="Example: vitalgate bench e2e --runs 5 --connections 1000")(bench)


def load(
    mqtt: Annotated[str, typer.Option(help="HOST:PORT to publish to.")],
    connections: Annotated[int, typer.Option(help="Number of clients; each is a separate device.", min=1)] = 100,
    rate: Annotated[
        float, typer.Option(help="Messages per second over all clients; 0 = as fast as --window allows.", min=0)
    ] = 0.0,
    seconds: Annotated[float, typer.Option(help="How long to send.", min=0.01)] = 10.0,
    qos: Annotated[int, typer.Option(help="0, 1 or 2.", min=0, max=2)] = 1,
    payload: Annotated[str, typer.Option(help="json2, json1, glucose or hr.")] = "json2",
    ledger: Annotated[
        Path | None, typer.Option(help="Write a line device,seq for each acknowledged message to this file.")
    ] = None,
    window: Annotated[int, typer.Option(help="At rate 0: unacknowledged messages per client.", min=1)] = 16,
    alarming: Annotated[
        int, typer.Option(help="Number of devices that violate a limit in every fourth message.", min=0)
    ] = 0,
    user: Annotated[str | None, typer.Option(help="User name, {n} = number of the client.")] = None,
    password: Annotated[str, typer.Option(help="Password, {n} = number of the client.")] = "",
    credentials: Annotated[Path | None, typer.Option(help="File with a line of device,secret per client.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Publish from many MQTT 3.1.1 clients. Without --user or --credentials, devices with patients of their own are
    enrolled with the owner that runs on the data directory."""
    import uvloop  # noqa: PLC0415 - a command loads what it uses only

    from deploy import settings  # noqa: PLC0415
    from simulators.load import LoadPlan, run_load  # noqa: PLC0415
    from simulators.load_payloads import PAYLOADS  # noqa: PLC0415

    try:
        host, port = settings.address(mqtt)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--mqtt") from error
    if payload not in PAYLOADS:
        raise InvalidRequest("--payload", f"one of {', '.join(PAYLOADS)}")
    if credentials is not None:
        who = _read(credentials, connections)
    elif user is not None:
        who = _named(user, password, connections)
    else:
        who = _enrolled(locate(data_dir, config)[0], connections, PAYLOADS[payload].adapter)
    _allow_files(connections)
    plan = LoadPlan(host, port, who, rate, seconds, qos, payload, window, alarming)
    result = uvloop.run(run_load(plan, sending=_sending))
    if ledger is not None:
        ledger.write_text("".join(result.ledger(payload)), encoding="ascii")
    show(result.summary())


def _sending() -> None:
    sys.stderr.write(json.dumps({"event": "sending"}) + "\n")
    sys.stderr.flush()


def _numbered(pattern: str, number: int) -> str:
    return pattern.replace("{n}", str(number))


def _named(user: str, password: str, connections: int) -> "list[Credential]":
    from simulators.load import Credential  # noqa: PLC0415

    return [Credential(_numbered(user, n), _numbered(password, n)) for n in range(connections)]


def _read(path: Path, connections: int) -> "list[Credential]":
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[:connections]
    except OSError as error:
        raise InvalidRequest("--credentials", f"{path}: {error.strerror}") from error
    from simulators.load import Credential  # noqa: PLC0415

    found = [Credential(*line.split(",", 1)) for line in lines if "," in line]
    if len(found) < connections:
        raise InvalidRequest("--credentials", f"{len(found)} lines of device,secret for {connections} connections")
    return found


def _enrolled(layout: Layout, connections: int, adapter: str) -> "list[Credential]":
    if not layout.lock("owner").held():
        raise BackendError(
            "nothing runs on this data directory: give --credentials or --user, or start vitalgate up", retryable=True
        )
    from deploy.bench.fleet import enrol_live  # noqa: PLC0415 - loads only for this command

    return asyncio.run(enrol_live(layout.control, connections, adapter))


def _allow_files(connections: int) -> None:
    """A socket per client and some for the rest."""
    wanted = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidRequest("--connections", f"this process may open {hard} files")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bench(
    name: Annotated[str, typer.Argument(help="gateway, store, engine, adapters, e2e, import or backtest.")],
    runs: Annotated[int, typer.Option(help="Number of runs; figures are medians over them.", min=1, max=100)] = 5,
    seconds: Annotated[float, typer.Option(help="gateway, e2e: how long each part of a run sends.", min=0.1)] = 10.0,
    connections: Annotated[str, typer.Option(help="gateway, e2e: connections, e.g. 1000,5000.")] = "1000,5000",
    rate: Annotated[float, typer.Option(help="gateway, e2e: messages per second of the paced part.", min=1)] = 10000.0,
    rows: Annotated[
        int, typer.Option(help="store, engine, backtest: rows; import: records; 0 = the usual number.", min=0)
    ] = 0,
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001 - a benchmark works in a temporary directory
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Measure one part of the pipeline, or all of it, in a temporary directory; prints medians."""
    if name not in NAMES:
        raise InvalidRequest("NAME", f"one of {', '.join(NAMES)}")
    try:
        counts = [int(part) for part in connections.split(",")]
    except ValueError as error:
        raise InvalidRequest("--connections", "numbers with commas") from error
    _allow_files(max(counts))
    # What it started ends with it, also when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    show(_measure(name, runs, seconds, counts, rate, rows))


def _measure(name: str, runs: int, seconds: float, counts: list[int], rate: float, rows: int) -> dict[str, Any]:
    kernels.use(None)
    from deploy.bench import e2e, engine, gateway, importing, store  # noqa: PLC0415 - loads only for this command
    from deploy.bench.report import environment  # noqa: PLC0415

    env = environment()
    match name:
        case "store":
            workload, found = store.measure(runs, rows or store.ROWS)
        case "engine":
            workload, found = engine.measure(runs, rows or engine.ROWS)
        case "adapters":
            from deploy.bench import adapters  # noqa: PLC0415

            workload, found = adapters.measure(runs)
        case "backtest":
            from deploy.bench import backtest  # noqa: PLC0415

            workload, found = backtest.measure(runs, rows or backtest.ROWS)
        case "import":
            workload, found = importing.measure(runs, rows or importing.RECORDS)
        case "gateway":
            workload, found = gateway.measure(runs, counts, seconds, rate)
        case _:
            workload, found = e2e.measure(runs, counts, seconds, rate)
    return {"name": name, "env": env, "workload": workload, "runs": found}
