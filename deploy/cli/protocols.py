"""Commands about protocols, programmes, and the rules in force for a patient."""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.people import patient
from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, show, show_list
from deploy.layout import DEFAULT_DATA_DIR
from vitals.errors import BackendError, InvalidRequest

if TYPE_CHECKING:
    from deploy.processes.control import ApiClient

protocol = typer.Typer(help="Protocols: rules for a condition.", no_args_is_help=True, rich_markup_mode=None)
programme = typer.Typer(help="Programmes: protocols that a site adopted.", no_args_is_help=True, rich_markup_mode=None)
Reason = Annotated[str, typer.Option(help="Why; it is kept with the version.")]
PatientId = Annotated[str, typer.Argument(metavar="ID", help="The patient's token.")]
_NAME_OR_FILE = "Name of a shipped protocol, or a file (TOML or JSON)."


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line; those about a patient are in its group."""
    app.add_typer(protocol, name="protocol")
    app.add_typer(programme, name="programme")


@protocol.command("list", epilog="Example: vitalgate protocol list")
def list_protocols(
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001 - every command takes it
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """List the shipped protocols."""
    from alerts.book.rulebook import Rulebook  # noqa: PLC0415 - --help must not wait for it

    items = Rulebook.shipped()
    shown = items if as_json else [one | {"rules": len(one["rules"])} for one in items]
    show_list(shown, ("name", "title", "rules", "source"), as_json)


@protocol.command("show", epilog="Example: vitalgate protocol show copd")
def show_protocol(
    name: Annotated[str, typer.Argument(help="Name of a shipped protocol.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Show the rules of a protocol in words; --json adds the whole document."""
    from alerts.book import rulebook  # noqa: PLC0415

    _rules(rulebook.protocol(name), as_json)


@protocol.command("check", epilog="Example: vitalgate protocol check our-copd.toml")
def check_protocol(
    file: Annotated[Path, typer.Argument(help="A protocol (TOML or JSON).")],
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Validate a protocol: print its rules in words, or the path of the first error with exit code 2."""
    from alerts.book import rulebook  # noqa: PLC0415

    _rules(rulebook.check(_document(file)), as_json)


@protocol.command("diff", epilog="Example: vitalgate protocol diff copd our-copd.toml")
def diff_protocols(
    before: Annotated[str, typer.Argument(help=_NAME_OR_FILE)],
    after: Annotated[str, typer.Argument(help=_NAME_OR_FILE)],
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Show in sentences the changes from one protocol to another."""
    from alerts.book import rulebook  # noqa: PLC0415

    was, now = (
        rulebook.protocol(one)["document"] if isinstance(one, str) else one for one in map(_named, (before, after))
    )
    changes = rulebook.diff(was, now)
    if as_json:
        show({"changes": changes})
        return
    for line in changes or ["nothing changes"]:
        typer.echo(line)


@programme.command("adopt", epilog="Example: vitalgate programme adopt copd --protocol copd --reason 'new ward'")
def adopt(
    ident: Annotated[str, typer.Argument(metavar="ID", help="The programme's id.")],
    protocols: Annotated[list[str], typer.Option("--protocol", help=_NAME_OR_FILE + " May be repeated.")],
    reason: Reason,
    title: Annotated[
        str | None, typer.Option(help="Title; default: the present title, or the id for a new programme.")
    ] = None,
    review: Annotated[str | None, typer.Option(help="Date of its next review, YYYY-MM-DD.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Adopt protocols as the next version of a programme; in force when the command ends."""
    body: dict[str, Any] = {"protocols": [_named(one) for one in protocols], "reason": reason}
    with control(data_dir, config) as api:
        _running(api)
        held = {one["programme"]: one for one in api.all("programmes")}.get(ident)
        body["title"] = title or (held["title"] if held else ident)
        if review is not None:
            body["review"] = f"{review}T00:00:00Z"
        made = api.request("PUT", f"programmes/{ident}", json=body)
        show({"programme": ident, "version": made["version"]})


@programme.command("list", epilog="Example: vitalgate programme list")
def list_programmes(data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the programmes of the site."""
    with control(data_dir, config) as api:
        items = api.all("programmes")
    shown = items if as_json else [one | {"protocols": ", ".join(one["protocols"])} for one in items]
    show_list(shown, ("programme", "title", "version", "protocols", "set", "author", "reason", "review"), as_json)


@programme.command("show", epilog="Example: vitalgate programme show copd")
def show_programme(
    ident: Annotated[str, typer.Argument(metavar="ID", help="The programme's id.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the rules of a programme in words, and the changes of each version."""
    with control(data_dir, config) as api:
        found = api.request("GET", f"programmes/{ident}")
    if as_json:
        show(found)
        return
    for one in found["protocols"]:
        _rules(one, as_json=False)
    for one in found["history"]:
        typer.echo(f"version {one['version']}, {one['set']}, {one['author'] or '–'}: {one['reason']}")
        for change in one["changes"]:
            typer.echo(f"  {change}")


@patient.command("enrol", epilog="Example: vitalgate patient enrol p_1a2b --programme copd --reason 'discharged home'")
def enrol(
    ident: PatientId,
    programmes: Annotated[list[str], typer.Option("--programme", help="A programme; may be repeated.")],
    reason: Reason,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Replace the programmes of a patient; overrides do not change."""
    with control(data_dir, config) as api:
        _running(api)
        held = api.request("GET", f"patients/{ident}/programmes")
        body = {
            "programmes": programmes, "overrides": _in_force(held["overrides"]), "reason": reason,
            "version": held["version"] + 1,
        }  # fmt: skip
        made = api.request("PUT", f"patients/{ident}/programmes", json=body)
        show({"patient": ident, "version": made["version"], "programmes": programmes})


@patient.command(
    "context", epilog="Example: vitalgate patient context p_1a2b --age-band adult --oxygen no --reason 'asked at visit'"
)
def set_context(
    ident: PatientId,
    reason: Reason,
    age_band: Annotated[str | None, typer.Option(help="unknown, under_16 or adult.")] = None,
    pregnancy: Annotated[str | None, typer.Option(help="unknown, no or yes.")] = None,
    oxygen: Annotated[str | None, typer.Option(help="unknown, no or yes.")] = None,
    spo2_scale: Annotated[int | None, typer.Option(help="1, or 2 where a target of 88-92 % is prescribed.")] = None,
    af: Annotated[str | None, typer.Option(help="Known atrial fibrillation: unknown, no or yes.")] = None,
    usual_confusion: Annotated[str | None, typer.Option(help="Confusion is usual for this patient: no or yes.")] = None,
    postpartum: Annotated[
        str | None, typer.Option(help="Gave birth in the last six weeks: unknown, no or yes.")
    ] = None,
    mechanical_support: Annotated[
        str | None, typer.Option(help="Mechanical circulatory support: unknown, no or yes.")
    ] = None,
    trained_or_paced: Annotated[
        str | None, typer.Option(help="A low pulse is usual (training or pacemaker): unknown, no or yes.")
    ] = None,
    usual_spo2: Annotated[int | None, typer.Option(help="Usual saturation, 70 to 100 %; 0 for none recorded.")] = None,
    treatment_limits: Annotated[
        str | None, typer.Option(help="Limits of treatment were agreed: unknown, no or yes.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Set the clinical context of a patient; options that are not given do not change."""
    if usual_confusion not in (None, "no", "yes"):
        raise typer.BadParameter("no or yes", param_hint="--usual-confusion")
    given = {
        "age_band": age_band, "pregnancy": pregnancy, "oxygen": oxygen, "spo2_scale": spo2_scale, "known_af": af,
        "usual_confusion": None if usual_confusion is None else usual_confusion == "yes", "postpartum": postpartum,
        "mechanical_support": mechanical_support, "trained_or_paced": trained_or_paced, "usual_spo2": usual_spo2,
        "treatment_limits": treatment_limits,
    }  # fmt: skip
    with control(data_dir, config) as api:
        _running(api)
        held = api.request("GET", f"patients/{ident}/context")
        body = {name: held[name] if value is None else value for name, value in given.items()}
        made = api.request(
            "PUT", f"patients/{ident}/context", json=body | {"reason": reason, "version": held["version"] + 1}
        )
        show({"patient": ident} | {name: made[name] for name in ("version", *given)})


@patient.command("rules", epilog="Example: vitalgate patient rules p_1a2b")
def patient_rules(
    ident: PatientId, data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Show the rules that watch a patient now, and the rules that do not apply with the reason."""
    with control(data_dir, config) as api:
        found = api.request("GET", f"patients/{ident}/rules")
    if as_json:
        show(found)
        return
    for rule in found["rules"]:
        own = ", changed for this patient" if rule["override"] else ""
        _say(rule, f"{rule['source']}, version {rule['version']}{own}")
    for rule in found["gated"]:
        _say(rule, f"does not apply: {rule['reason']}")
    if not found["rules"] and not found["gated"]:
        typer.echo("nothing: no programme and no limit")


def _rules(read: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show(read)
        return
    typer.echo(f"{read['name']}: {read['title']}")
    for rule in read["rules"]:
        _say(rule)


def _say(rule: Mapping[str, Any], remark: str = "") -> None:
    """A rule in words; sentences do not fit into a table."""
    typer.echo(f"{rule['severity']}  {rule['id']}: {rule['title']}")
    for line in (rule["words"], remark):
        if line and line != rule["title"]:
            typer.echo(f"    {line}")


def _running(api: "ApiClient") -> None:
    """Versions are made by the engine: without one a command would wait in vain."""
    if not api.live:
        raise BackendError("the pipeline does not run: start it with vitalgate up", retryable=True)


def _in_force(overrides: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is not over yet; times of the API are UTC, to the second or finer."""
    now = datetime.now(UTC)
    return [one for one in overrides if one["until"] is None or datetime.fromisoformat(one["until"]) > now]


def _named(given: str) -> str | dict[str, Any]:
    """A file where it is one, else the name of a shipped protocol."""
    path = Path(given)
    return _document(path) if path.suffix in {".toml", ".json"} or path.exists() else given


def _document(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InvalidRequest("file", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest("file", f"is neither TOML nor JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequest("file", "is no protocol")
    return document
