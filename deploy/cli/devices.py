"""Commands about devices, quarantine and readings that wait for a wearer."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, show, show_list
from deploy.layout import DEFAULT_DATA_DIR

device = typer.Typer(help="Devices: enrolment, credentials, wearers.", no_args_is_help=True, rich_markup_mode=None)
quarantine = typer.Typer(help="Messages that could not be decoded.", no_args_is_help=True, rich_markup_mode=None)
unassigned = typer.Typer(help="Readings that wait for a wearer.", no_args_is_help=True, rich_markup_mode=None)
ItemId = Annotated[str, typer.Argument(metavar="ID", help="The item's id.")]
_EXPECT_HELP = "Longest expected time between measurements, e.g. 90s, 15m, 8h, 1d; default: from its vital signs."
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_COLUMNS = ("device", "adapter", "patient", "online", "battery", "last_seen", "last_measured", "overdue", "faults",
            "revoked")  # fmt: skip
DeviceId = Annotated[str, typer.Argument(help="The device's id.")]


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.add_typer(device, name="device")
    app.add_typer(quarantine, name="quarantine")
    app.add_typer(unassigned, name="unassigned")


def _seconds(text: str) -> int:
    """``15m`` is 900."""
    number, unit = text[:-1], text[-1:]
    if not (number.isdecimal() and number.isascii()) or unit not in _UNIT_S:
        raise typer.BadParameter("a whole number and s, m, h or d, such as 15m", param_hint="--expect")
    return int(number) * _UNIT_S[unit]


@device.command("add", epilog="Example: vitalgate device add --adapter ble_glucose --id meter-17")
def add_device(
    adapter: Annotated[str, typer.Option(help="Adapter that decodes it, e.g. json.")],
    ident: Annotated[str | None, typer.Option("--id", help="The device's id; default: a random one.")] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="The device is a hub that also publishes for its children.")
    ] = False,
    parent: Annotated[str | None, typer.Option(help="The hub that publishes for it.")] = None,
    zone: Annotated[
        str | None, typer.Option(help="IANA zone of the device's clock; default: the zone of its wearer.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Model setting KEY=VALUE; may be repeated.")] = None,
    expect: Annotated[str | None, typer.Option(help=_EXPECT_HELP)] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Enrol a device; its secret is shown once."""
    body: dict[str, Any] = {"adapter": adapter, "id": ident, "hub": hub, "parent": parent, "zone": zone}
    pairs = [pair.partition("=") for pair in setting or []]
    if expect is not None:
        body["expected_interval_s"] = _seconds(expect)
    if pairs:
        body["settings"] = {key: value for key, _, value in pairs}
    with control(data_dir, config) as api:
        _told(api.request("POST", "devices", json={key: value for key, value in body.items() if value is not None}))


def _told(answer: Mapping[str, Any]) -> None:
    """An answer, and on standard error the vital signs that the device cannot page for."""
    show(answer)
    for one in answer["cannot_page"]:
        typer.echo(one["reason"], err=True)


@device.command("list", epilog="Example: vitalgate device list")
def list_devices(data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List devices."""
    with control(data_dir, config) as api:
        items = api.all("devices")
    show_list(items if as_json else [in_words(item) for item in items], _COLUMNS, as_json)


def in_words(item: Mapping[str, Any]) -> dict[str, Any]:
    """A device as the table shows it."""
    level = "" if item["battery"] is None else f"{item['battery']:g} %"
    yes_no = {True: "yes", False: "no", None: None}
    return {
        **item,
        "online": yes_no[item["online"]],
        "overdue": yes_no[item["overdue"]],
        "battery": f"{level} low".strip() if item["battery_low"] else level,
        "faults": ", ".join(f"{fault['kind']}: {fault['detail']}" for fault in item["faults"]),
    }


@device.command("set", epilog="Example: vitalgate device set meter-17 --expect 15m --battery-low 30")
def set_device(
    device: DeviceId,
    expect: Annotated[str | None, typer.Option(help=_EXPECT_HELP)] = None,
    battery_low: Annotated[float | None, typer.Option(help="Percent below which its battery is low.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="Model setting KEY=VALUE; KEY= removes it; may be repeated.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Change the expected interval, the battery threshold or model settings of a device."""
    pairs = [pair.partition("=") for pair in setting or []]
    body = {
        "expected_interval_s": None if expect is None else _seconds(expect),
        "battery_low_percent": battery_low,
        "settings": {key: value or None for key, _, value in pairs} or None,
    }
    with control(data_dir, config) as api:
        given = {key: value for key, value in body.items() if value is not None}
        show(api.request("PATCH", f"devices/{device}", json=given))


@device.command("assign", epilog="Example: vitalgate device assign meter-17 p_1a2b --from 2026-03-01T08:00:00Z")
def assign_device(
    device: DeviceId,
    patient: Annotated[str, typer.Argument(help="The patient's token.")],
    from_: Annotated[
        str | None,
        typer.Option("--from", help="RFC 3339; default: now, or the device's whole past for its first wearer."),
    ] = None,
    to: Annotated[str | None, typer.Option(help="RFC 3339; default: until further notice.")] = None,
    zone: Annotated[str | None, typer.Option(help="IANA zone of the device's clock while worn.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Correct the past: take this time from the recorded wearer and move its readings."
        ),
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Assign a device to a patient for a period."""
    body = {"patient": patient, "from": from_, "to": to, "zone": zone, "replace": replace or None}
    with control(data_dir, config) as api:
        given = {key: value for key, value in body.items() if value is not None}
        _told(api.request("POST", f"devices/{device}/assign", json=given))


@device.command("rotate", epilog="Example: vitalgate device rotate meter-17 --overlap 3600")
def rotate_device(
    device: DeviceId,
    overlap: Annotated[
        int, typer.Option(help="Seconds for which the old secret continues to work.", min=0, max=86_400)
    ] = 86_400,
    now: Annotated[
        bool, typer.Option("--now", help="End the old secret at once, for example if the device is lost.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Give a device a new secret; the old one stops working after a day, after ``--overlap`` seconds, or ``--now``."""
    with control(data_dir, config) as api:
        show(api.request("POST", f"devices/{device}/rotate", json={"overlap_s": 0 if now else overlap}))


@device.command("revoke", epilog="Example: vitalgate device revoke meter-17")
def revoke_device(
    device: DeviceId, data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False  # noqa: ARG001
) -> None:  # fmt: skip
    """Shut a device out; a connected device is disconnected."""
    with control(data_dir, config) as api:
        api.request("POST", f"devices/{device}/revoke")
        show({"device": device, "revoked": True})


@device.command("clock", epilog="Example: vitalgate device clock cuff-3 --undo 'set to another zone'")
def device_clock(
    ident: DeviceId,
    undo: Annotated[
        str | None, typer.Option(metavar="REASON", help="Stop correcting readings by what was learned, and say why.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Show how far a device's clock is ahead, with the messages that say so; or take it back."""
    with control(data_dir, config) as api:
        if undo is None:
            show(api.request("GET", f"devices/{ident}/clock"))
        else:
            show(api.request("POST", f"devices/{ident}/clock/undo", json={"reason": undo}))


@quarantine.command("list", epilog="Example: vitalgate quarantine list --json")
def list_quarantine(data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List messages in quarantine."""
    with control(data_dir, config) as api:
        items = api.all("quarantine")
    show_list(items, ("id", "device", "adapter", "kind", "reason", "detail", "received", "size"), as_json)


@quarantine.command("show", epilog="Example: vitalgate quarantine show 17")
def show_quarantine(
    ident: Annotated[str, typer.Argument(metavar="ID", help="The item's id.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Show one message in quarantine with its payload (base64)."""
    with control(data_dir, config) as api:
        show(api.request("GET", f"quarantine/{ident}"))


@quarantine.command("replay", epilog="Example: vitalgate quarantine replay --reason unknown_unit")
def replay_quarantine(
    ident: Annotated[
        str | None, typer.Argument(metavar="ID", help="One item; default: all items that match the options.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only items with this reason.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Only items of this adapter.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Decode messages again with the current adapters; prints counts per outcome."""
    body = {"id": ident, "reason": reason, "adapter": adapter}
    with control(data_dir, config) as api:
        given = {key: value for key, value in body.items() if value is not None}
        show(api.request("POST", "quarantine/replay", json=given))


@unassigned.command("list", epilog="Example: vitalgate unassigned list --json")
def list_unassigned(data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List readings that wait for a patient, one line per message and reason."""
    with control(data_dir, config) as api:
        items = api.all("unassigned")
    show_list(items, ("id", "device", "readings", "reason", "first", "last", "received"), as_json)


@unassigned.command("show", epilog="Example: vitalgate unassigned show 17")
def show_unassigned(
    ident: ItemId, data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False  # noqa: ARG001
) -> None:  # fmt: skip
    """Show one item with its readings."""
    with control(data_dir, config) as api:
        show(api.request("GET", f"unassigned/{ident}"))


@unassigned.command("assign", epilog="Example: vitalgate unassigned assign 17 p_1a2b --shift 86400")
def assign_unassigned(
    ident: ItemId,
    patient: Annotated[str, typer.Argument(help="The patient's token.")],
    shift: Annotated[
        float | None, typer.Option(help="Seconds to add to the time as sent (wall time read as UTC) to get UTC.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Assign waiting readings to a patient, as history that pages nobody."""
    body = {"patient": patient} | ({} if shift is None else {"shift_s": shift})
    with control(data_dir, config) as api:
        show(api.request("POST", f"unassigned/{ident}/assign", json=body))


@unassigned.command("discard", epilog="Example: vitalgate unassigned discard 17 --reason 'a meter check'")
def discard_unassigned(
    ident: ItemId,
    reason: Annotated[str, typer.Option(help="Why nobody needs them.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Discard waiting readings; they stay counted as unassigned."""
    with control(data_dir, config) as api:
        show(api.request("POST", f"unassigned/{ident}/discard", json={"reason": reason}))
