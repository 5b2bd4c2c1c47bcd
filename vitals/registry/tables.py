"""The registry's tables. ``number`` keeps the order of creation; ``changed`` is the version that last touched a row.

``patient_statuses`` and ``patient_zones`` are append-only declarations "from a time on": the newest declaration holds
from its time on, and what was declared for earlier times stays. A null ``from_ns`` is the open start.
"""

from typing import Any, Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()


# SQLite numbers rows only through its own INTEGER type.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number() -> sa.Column[Any]:
    return sa.Column("number", _NUMBER, primary_key=True, autoincrement=True)


def _changed() -> sa.Column[Any]:
    return sa.Column("changed", sa.BigInteger, nullable=False, index=True)


def _patient() -> sa.Column[Any]:
    return sa.Column("patient", sa.String(64), sa.ForeignKey("patients.id"), nullable=False, index=True)


COUNTER: Final = sa.Table(
    "registry_version", METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)  # fmt: skip

PATIENTS: Final = sa.Table(
    "patients", METADATA,
    _number(),
    sa.Column("id", sa.String(64), unique=True, nullable=False),
    sa.Column("condition", sa.String(64)),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    _changed(),
)  # fmt: skip

STATUSES: Final = sa.Table(
    "patient_statuses", METADATA,
    _number(),
    _patient(),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("from_ns", sa.BigInteger),
    _changed(),
)  # fmt: skip

ZONES: Final = sa.Table(
    "patient_zones", METADATA,
    _number(),
    _patient(),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("from_ns", sa.BigInteger),
    _changed(),
)  # fmt: skip

DEVICES: Final = sa.Table(
    "devices", METADATA,
    _number(),
    sa.Column("id", sa.String(64), unique=True, nullable=False),
    sa.Column("adapter", sa.String(64), nullable=False),
    sa.Column("hub", sa.Boolean, nullable=False),
    sa.Column("parent", sa.String(64), sa.ForeignKey("devices.id")),
    sa.Column("zone", sa.String(64)),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("revoked_ns", sa.BigInteger),
    _changed(),
)  # fmt: skip

GRANTS: Final = sa.Table(
    "device_grants", METADATA,
    _number(),
    sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), nullable=False, index=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("expires_ns", sa.BigInteger, nullable=False),
    _changed(),
)  # fmt: skip

ASSIGNMENTS: Final = sa.Table(
    "assignments", METADATA,
    _number(),
    sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), nullable=False, index=True),
    _patient(),
    sa.Column("from_ns", sa.BigInteger),
    sa.Column("to_ns", sa.BigInteger),
    sa.Column("zone", sa.String(64)),
    _changed(),
)  # fmt: skip
