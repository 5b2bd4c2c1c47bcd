"""Commands that send: import, replay, simulate."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, locate, show
from deploy.layout import DEFAULT_DATA_DIR, Layout
from vitals.errors import BackendError, InvalidRequest, NotFound
from vitals.times import DAY_NS

_LEAD_NS = 1_000_000_000
"""From connecting to the first measurement of all devices."""
Recording = Annotated[Path, typer.Argument(metavar="FILE", help="The recording.")]
Device = Annotated[str, typer.Option("--device", help="The device that recorded it.")]


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.command("import", epilog="Example: vitalgate import export.zip --device phone-1")(import_file)
    app.command(
        "replay", epilog="Example: vitalgate replay export.csv --device cgm-1 --align 2016-10-31T06:04:05 --speed 30"
    )(replay)
    app.command("simulate", epilog="Example: vitalgate simulate --patients 12 --speed 60 --faults dropout=0.05")(
        simulate
    )


@contextmanager
def _bar(what: str, amount: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr: call it with (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _send(api: Any, file: Path, device: str, align: datetime | None, speed: float) -> dict[str, Any]:
    """Publish a recording through the gateway as ``device`` and wait until ingest has passed it."""
    from deploy.jobs.importing import GRANT_TTL_S, moved, settled  # noqa: PLC0415
    from deploy.processes.control import options  # noqa: PLC0415
    from deploy.wiring import CLOCK  # noqa: PLC0415
    from simulators import replay as recording  # noqa: PLC0415 - loads only for this command
    from simulators.publisher import Publisher  # noqa: PLC0415

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest("FILE", f"{file}: {error.strerror}") from error
    record = api.request("GET", f"devices/{device}")
    zone = None if align is None else _zone(api, record)
    plan = recording.plan(data, align, speed, CLOCK.now_ns(), zone, adapter=record["adapter"])
    secret = api.request("POST", f"devices/{device}/grant", json={"ttl_s": GRANT_TTL_S})["secret"]
    before = api.request("GET", f"devices/{device}/ledger")
    reach = options(api)

    async def publish() -> tuple[dict[str, int], Exception | None]:
        with _bar(file.name, MofNCompleteColumn()) as show_progress:
            async with Publisher(device, secret, reach, client_id=f"{device}.replay") as publisher:
                counts = await recording.run(
                    plan, publisher, CLOCK, adapter=record["adapter"],
                    progress=lambda state: show_progress(state.acked, state.total),
                )  # fmt: skip
                return counts, publisher.failure

    counts, failure = asyncio.run(publish())
    if failure is not None:
        raise failure
    return counts | {"device": device, "ledger": moved(before, settled(api, device))}


def _zone(api: Any, record: dict[str, Any]) -> str | None:
    """The zone in which the device's wall clock is read while its present patient wears it."""
    worn = api.all(f"patients/{record['patient']}/assignments") if record.get("patient") else []
    zones = [item["zone"] for item in worn if item["device"] == record["device"]]
    return zones[-1] if zones else record.get("zone")


def replay(
    file: Recording,
    device: Device,
    align: Annotated[
        str | None,
        typer.Option(help="Wall time in the recording that becomes now; without it, all readings are history."),
    ] = None,
    speed: Annotated[
        float, typer.Option(help="With --align: how many times faster than real time later readings arrive.")
    ] = 1.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Publish a recording over MQTT as history, or moved in time so that a chosen moment is now."""
    moment = None if align is None else _wall_time(align)
    with control(data_dir, config) as api:
        if not api.live:
            raise BackendError("nothing runs on this data directory: start vitalgate up first", retryable=True)
        show(_send(api, file, device, moment, speed))


def _wall_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("--align", "expected a time like 2016-10-31T06:04:05") from error


def import_file(
    file: Recording,
    device: Device,
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of payload in the file; needed if the adapter reads several kinds of files."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Store a file of any size as history, and print how many readings it added. A record that cannot be read is named
    with its place and left out; the exit code is 1 then, and `partial` is true. After an interruption the same command
    continues. Importing a file again adds nothing."""
    layout, loaded = locate(data_dir, config)
    from deploy.jobs import importing  # noqa: PLC0415 - loads only for this command

    if not file.is_file():
        raise InvalidRequest("FILE", f"{file}: no such file")
    try:
        with (
            _owner(layout.root, config, running=layout.lock("owner").held()),
            control(data_dir, config) as api,
            _bar(file.name, DownloadColumn()) as progress,
        ):
            counts = importing.import_file(api, layout, loaded, file, device, kind, progress)
    except KeyboardInterrupt:
        sys.stderr.write("vitalgate: stopped; run the same command again to continue\n")
        raise
    for problem in counts["problems"]["first"]:
        sys.stderr.write(f"vitalgate: {file.name}: {problem}\n")
    show(counts)
    if counts["partial"]:
        raise typer.Exit(1)


@contextmanager
def _owner(root: Path, config: Path | None, *, running: bool) -> Iterator[None]:
    """A running pipeline: the one there is, else one for as long as the block lasts."""
    if running:
        yield
        return
    if not Layout(root).registry.exists():
        raise NotFound("data directory", str(root))
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--data-dir", str(root), "--http", "127.0.0.1:0"]
    command += ["--mqtt", "127.0.0.1:0", *([] if config is None else ["--config", str(config)])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise BackendError("the pipeline did not start, see its log above", retryable=True)
            yield
        finally:
            process.terminate()


def simulate(
    patients: Annotated[int, typer.Option(help="How many synthetic patients.", min=1, max=1000)] = 5,
    speed: Annotated[float, typer.Option(help="How many times faster than real time.", min=0.001)] = 1.0,
    faults: Annotated[
        str, typer.Option(help="e.g. dropout=0.05,garbage=0.01 (shares), clock_reset=60,resync=30 (seconds)")
    ] = "",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Formats of the devices, e.g. fhir,ble_plx/2a5f; default: those of the patient's condition.",
        ),
    ] = "",
    seconds: Annotated[float | None, typer.Option(help="How long to run; default: until Ctrl-C.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same patients.")] = 0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Enrol synthetic patients with devices and publish their measurements. Other patients are not touched."""
    with control(data_dir, config) as api:
        if not api.live:
            raise BackendError("nothing runs on this data directory: start vitalgate up first", retryable=True)
        result = _simulate(api, patients, speed, faults, formats, seconds, seed)
    show(result)


def _simulate(
    api: Any, patients: int, speed: float, faults: str, formats: str, seconds: float | None, seed: int
) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - loads only for this command

    from deploy.jobs.demo import enrol  # noqa: PLC0415
    from deploy.processes.control import options  # noqa: PLC0415
    from deploy.wiring import CLOCK  # noqa: PLC0415
    from simulators.faults import parse_faults  # noqa: PLC0415
    from simulators.formats import parse_formats  # noqa: PLC0415
    from simulators.patients import synthetic_patients  # noqa: PLC0415
    from simulators.simulate import simulate as run  # noqa: PLC0415

    chosen, spoken = parse_faults(faults), parse_formats(formats)
    now_ns = CLOCK.now_ns()
    enrolled = enrol(api, synthetic_patients(patients, seed, now_ns, now_ns + DAY_NS), now_ns, formats=spoken)
    first_ns = CLOCK.now_ns() + _LEAD_NS
    targets = [replace(target, schedule=replace(target.schedule, first_ns=first_ns)) for target in enrolled]
    try:
        result = asyncio.run(
            run(targets, options(api), clock=CLOCK, speed=speed, faults=chosen, seconds=seconds, seed=seed)
        )
    except KeyboardInterrupt:
        return {"patients": patients, "devices": len(targets), "stopped": True}
    counts: dict[str, Any] = json.loads(msgspec.json.encode(result))
    return {"patients": patients, "devices": len(targets)} | counts
