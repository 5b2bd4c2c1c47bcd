"""Commands about tokens and patients."""

from typing import Annotated, Any

import typer

from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, show, show_list
from deploy.layout import DEFAULT_DATA_DIR

token = typer.Typer(help="API tokens.", no_args_is_help=True, rich_markup_mode=None)
patient = typer.Typer(help="Patients.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.add_typer(token, name="token")
    app.add_typer(patient, name="patient")


@token.command("create", epilog="Example: vitalgate token create --role clinician --ttl 86400")
def create_token(
    role: Annotated[str, typer.Option(help="admin, clinician, viewer or integrator.")],
    ttl: Annotated[int | None, typer.Option(help="Seconds until it expires; default 30 days.", min=1)] = None,
    scope: Annotated[
        str | None, typer.Option(help="Limit the token to these permissions, e.g. 'vitals:read alerts:read'.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - the answer is JSON anyway
) -> None:
    """Create a bearer token; it is shown once."""
    body = {"role": role} | _given(ttl_s=ttl, scope=scope)
    with control(data_dir, config) as api:
        show(api.request("POST", "tokens", json=body))


@patient.command("add", epilog="Example: vitalgate patient add --name 'Ada Example' --zone Europe/Berlin")
def add_patient(
    name: Annotated[str, typer.Option(help="Name; stored in the encrypted vault only.")],
    birth_date: Annotated[str | None, typer.Option(help="YYYY-MM-DD.")] = None,
    mrn: Annotated[str | None, typer.Option(help="Medical record number.")] = None,
    zone: Annotated[str | None, typer.Option(help="IANA time zone, e.g. Europe/Berlin.")] = None,
    condition: Annotated[str | None, typer.Option(help="Programme, e.g. diabetes.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Add a patient; prints the patient's token."""
    body = {"name": name} | _given(birth_date=birth_date, mrn=mrn, zone=zone, condition=condition)
    with control(data_dir, config) as api:
        show({"patient": api.request("POST", "patients", json=body)["patient"]})


@patient.command("list", epilog="Example: vitalgate patient list --json")
def list_patients(data_dir: DataDir = DEFAULT_DATA_DIR, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List patients."""
    with control(data_dir, config) as api:
        items = api.all("patients")
    show_list(items, ("patient", "name", "birth_date", "mrn", "zone", "condition", "status"), as_json)


@patient.command("status", epilog="Example: vitalgate patient status p_1a2b paused")
def patient_status(
    patient: Annotated[str, typer.Argument(help="The patient's token.")],
    status: Annotated[str, typer.Argument(help="active, paused, hospitalised or discharged.")],
    check: Annotated[
        str | None, typer.Option(help="RFC 3339 time at which to ask whether the status should continue.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001
) -> None:
    """Set a patient's status from now on."""
    with control(data_dir, config) as api:
        api.request("PUT", f"patients/{patient}/status", json={"status": status} | _given(check=check))
        show({"patient": patient, "status": status})


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
