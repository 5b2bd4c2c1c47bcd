"""Devices, credentials, patients' tokens and assignments over time, in one SQL database (DESIGN sections 3 and 6).

SQLAlchemy Core over SQLite (WAL, ``synchronous=FULL``); no statement is SQLite's own, so that PostgreSQL can hold the
same tables. Every write raises one counter first and stamps the rows it touches with it: the counter's row lock puts
writers in order, ``version()`` reads it, and a reader in any process loads just the rows that changed since.
"""

import hashlib
import hmac
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa

from vitals.errors import BackendError, InvalidRequest, NotFound
from vitals.ports import Clock
from vitals.records import Assignment, DatedZone, Device, Patient
from vitals.registry.cache import Census, Enrolled, Grant, Interval
from vitals.registry.tables import ASSIGNMENTS, COUNTER, DEVICES, GRANTS, METADATA, PATIENTS, STATUSES, ZONES
from vitals.times import DAY_S, SECOND_NS

STATUS_WORDS: Final = ("active", "paused", "hospitalised", "discharged")
"""Dated statuses of a patient (DESIGN section 5, Time)."""
MAX_CONDITION: Final = 64
MAX_GRANT_S: Final = DAY_S
# Ids that begin with the product's name are reserved for streams that the product makes, such as scores.
_DEVICE_ID: Final = re.compile(r"(?!vitalgate:)[A-Za-z0-9_.:-]{1,64}")
_BUSY_MS: Final = 10_000
_SALT_BYTES: Final = 16
_NOBODY: Final = Enrolled(Device("", ""), salt=bytes(_SALT_BYTES), digest=bytes(32))


class _Change(NamedTuple):
    """An open write transaction and the version it makes."""

    connection: sa.Connection
    version: int


def _digest(salt: bytes, secret: bytes) -> bytes:
    # The secrets are 256 random bits: there is no dictionary to slow down, and a slow hash would let anybody burn the
    # gateway's processor with false CONNECTs, or thousands of devices do so when they reconnect at once.
    return hashlib.sha256(salt + secret).digest()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # Autocommit at the driver: BEGIN is ours (below). The driver's implicit one starts too late to order writers.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def open_engine(where: Path | str) -> sa.Engine:
    """An engine over a SQLite file (a path) or another database (a URL)."""
    url = str(where) if "://" in str(where) else f"sqlite:///{where}"
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
    return engine


def checked_zone(zone: str | None) -> str | None:
    """``zone`` when it is None or an IANA zone; raises ``InvalidRequest``."""
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidRequest("zone", "not an IANA time zone") from error
    return zone


class SqlRegistry:
    """The ``Registry`` port over SQL; thread-safe, and several processes may share the database.

    Reads come from memory: each asks for the version (some 10 us) and loads what changed. Raises ``BackendError``
    (retryable) when the database is busy, full or away.
    """

    def __init__(self, url_or_path: Path | str, clock: Clock) -> None:
        self._clock = clock
        self._engine = open_engine(url_or_path)
        self._writer = self._engine.execution_options(writes=True)
        self._lock = threading.Lock()
        self._census = Census()
        with self._errors():
            with self._writer.begin() as connection:
                METADATA.create_all(connection)
                if connection.scalar(sa.select(COUNTER.c.version)) is None:
                    connection.execute(COUNTER.insert().values(id=1, version=0))
            # A statement through SQLAlchemy costs more than the read itself; this one runs for every authentication.
            self._probe = self._engine.raw_connection()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.OperationalError, sqlite3.OperationalError) as error:
            raise BackendError(f"registry: {getattr(error, 'orig', error)}", retryable=True) from error

    @contextmanager
    def _change(self) -> Iterator[_Change]:
        with self._errors(), self._writer.begin() as connection:
            connection.execute(COUNTER.update().values(version=COUNTER.c.version + 1))
            yield _Change(connection, connection.execute(sa.select(COUNTER.c.version)).scalar_one())

    def _probed(self) -> int:
        cursor = self._probe.cursor()
        try:
            cursor.execute("SELECT version FROM registry_version")
            return int(cursor.fetchall()[0][0])
        finally:
            cursor.close()
            # Ends the snapshot that other databases than SQLite keep open behind a plain read.
            self._probe.rollback()

    def version(self) -> int:
        with self._errors(), self._lock:
            return self._probed()

    @contextmanager
    def _known(self) -> Iterator[Census]:
        with self._lock:
            with self._errors():
                if self._probed() != self._census.version:
                    with self._engine.connect() as connection:
                        self._census.refresh(connection)
            yield self._census

    def close(self) -> None:
        """Release connections."""
        with self._lock:
            self._probe.close()
            self._engine.dispose()

    # -- patients

    def add_patient(
        self, *, zone: str | None = None, condition: str | None = None, token: str | None = None
    ) -> Patient:
        """A new patient with a random token, or with ``token``, which is the canary's."""
        checked_zone(zone)
        _check_condition(condition)
        token, now_ns = token or f"p_{secrets.token_hex(8)}", self._clock.now_ns()
        with self._change() as (connection, version):
            connection.execute(
                PATIENTS.insert().values(id=token, condition=condition, created_ns=now_ns, changed=version)
            )
            connection.execute(
                STATUSES.insert().values(patient=token, status="active", from_ns=now_ns, changed=version)
            )
            if zone is not None:
                connection.execute(ZONES.insert().values(patient=token, zone=zone, from_ns=None, changed=version))
        return self.patient(token)

    def update_patient(self, patient: str, *, zone: str | None = None, condition: str | None = None) -> Patient:
        checked_zone(zone)
        _check_condition(condition)
        known = self.patient(patient)
        with self._change() as (connection, version):
            if condition is not None:
                connection.execute(
                    PATIENTS.update().where(PATIENTS.c.id == patient).values(condition=condition, changed=version)
                )
            if zone is not None and zone != known.zone:
                # A first zone applies to the whole past. A later zone is a move: earlier readings keep the old zone.
                from_ns = None if known.zone is None else self._clock.now_ns()
                connection.execute(ZONES.insert().values(patient=patient, zone=zone, from_ns=from_ns, changed=version))
        return self.patient(patient)

    def set_status(self, patient: str, status: str, from_ns: int) -> Patient:
        if status not in STATUS_WORDS:
            raise InvalidRequest("status", f"not one of {', '.join(STATUS_WORDS)}")
        self.patient(patient)
        with self._change() as (connection, version):
            connection.execute(
                STATUSES.insert().values(patient=patient, status=status, from_ns=from_ns, changed=version)
            )
        return self.patient(patient)

    def statuses(self, patient: str) -> list[Interval]:
        """The dated statuses of a patient, by time: (value, from_ns, to_ns). Raises ``NotFound``."""
        with self._known() as census:
            census.patient(patient, self._clock.now_ns())
            return census.statuses(patient)

    def zones(self, patient: str) -> list[DatedZone]:
        """The dated time zones of a patient, by time. Raises ``NotFound``."""
        with self._known() as census:
            census.patient(patient, self._clock.now_ns())
            return [DatedZone(*zone) for zone in census.zones(patient)]

    def patient(self, patient: str) -> Patient:
        with self._known() as census:
            return census.patient(patient, self._clock.now_ns())

    def patients(self) -> list[Patient]:
        with self._known() as census:
            now_ns = self._clock.now_ns()
            return [census.patient(token, now_ns) for token in census.patients]

    # -- devices

    def enrol(
        self, adapter: str, *, device: str | None = None, hub: bool = False, parent: str | None = None,
        zone: str | None = None, settings: Mapping[str, str] | None = None,
    ) -> tuple[Device, str]:  # fmt: skip
        if device is not None and not _DEVICE_ID.fullmatch(device):
            raise InvalidRequest("id", "1 to 64 characters of A-Z a-z 0-9 _ . : -, not beginning with vitalgate:")
        checked_zone(zone)
        ident = device if device is not None else f"d_{secrets.token_hex(8)}"
        secret, credential = _new_secret()
        with self._change() as (connection, version):
            if connection.scalar(sa.select(DEVICES.c.id).where(DEVICES.c.id == ident)) is not None:
                raise InvalidRequest("id", "is taken")
            if parent is not None:
                is_hub = connection.scalar(sa.select(DEVICES.c.hub).where(DEVICES.c.id == parent))
                if not is_hub:
                    raise InvalidRequest("parent", "no such device" if is_hub is None else "is not a hub")
            row = {"id": ident, "adapter": adapter, "hub": hub, "parent": parent, "zone": zone} | credential
            row |= {"settings": dict(settings or {}), "created_ns": self._clock.now_ns(), "changed": version}
            connection.execute(DEVICES.insert().values(row))
        return self.device(ident), secret

    def rotate(self, device: str, *, overlap_s: int = 0) -> str:
        """A new secret; the old one works for ``overlap_s`` more seconds, every other secret ends now.

        Raises ``NotFound``, and ``InvalidRequest`` for an overlap that is not 0 s to a day.
        """
        if not 0 <= overlap_s <= MAX_GRANT_S:
            raise InvalidRequest("overlap_s", f"0 to {MAX_GRANT_S} seconds")
        secret, credential = _new_secret()
        with self._change() as (connection, version):
            mine = DEVICES.c.id == device
            old = connection.execute(sa.select(DEVICES.c.salt, DEVICES.c.digest).where(mine)).one_or_none()
            if old is None:
                raise NotFound("device", device)
            connection.execute(GRANTS.delete().where(GRANTS.c.device == device))
            if overlap_s:
                ends_ns = self._clock.now_ns() + overlap_s * SECOND_NS
                row = {"device": device, "salt": old.salt, "digest": old.digest, "expires_ns": ends_ns}
                connection.execute(GRANTS.insert().values(row | {"changed": version}))
            connection.execute(DEVICES.update().where(mine).values(changed=version, **credential))
        return secret

    def grant(self, device: str, ttl_s: int) -> str:
        """A second secret beside the device's own, for ``ttl_s`` seconds: what replays a recording signs in with it.

        Raises ``NotFound``, and ``InvalidRequest`` for a time that is not 1 s to a day.
        """
        if not 1 <= ttl_s <= MAX_GRANT_S:
            raise InvalidRequest("ttl_s", f"1 to {MAX_GRANT_S} seconds")
        self.device(device)
        secret, credential = _new_secret()
        now_ns = self._clock.now_ns()
        with self._change() as (connection, version):
            connection.execute(GRANTS.delete().where(GRANTS.c.expires_ns < now_ns))
            row = {"device": device, "expires_ns": now_ns + ttl_s * SECOND_NS, "changed": version} | credential
            connection.execute(GRANTS.insert().values(row))
        return secret

    def configure(self, device: str, settings: Mapping[str, str | None]) -> Device:
        with self._change() as (connection, version):
            mine = DEVICES.c.id == device
            held = connection.scalar(sa.select(DEVICES.c.settings).where(mine))
            if held is None:
                raise NotFound("device", device)
            kept = {name: value for name, value in {**held, **settings}.items() if value is not None}
            connection.execute(DEVICES.update().where(mine).values(settings=kept, changed=version))
        return self.device(device)

    def revoke(self, device: str) -> Device:
        if self.device(device).revoked_ns is None:
            self._update_device(device, {"revoked_ns": self._clock.now_ns()})
        return self.device(device)

    def _update_device(self, device: str, values: Mapping[str, Any]) -> None:
        with self._change() as (connection, version):
            done = connection.execute(DEVICES.update().where(DEVICES.c.id == device).values(changed=version, **values))
            if done.rowcount == 0:
                raise NotFound("device", device)

    def device(self, device: str) -> Device:
        with self._known() as census:
            return census.device(device)

    def devices(self) -> list[Device]:
        with self._known() as census:
            return [enrolled.device for enrolled in census.devices.values()]

    def authenticate(self, device: str, secret: bytes) -> bool:
        with self._known() as census:
            enrolled = census.devices.get(device, _NOBODY)
            grants = census.grants.get(device, ())
        # Unknown and revoked devices take the same path, so that time does not tell which ids exist.
        matches = hmac.compare_digest(_digest(enrolled.salt, secret), enrolled.digest)
        if not matches and grants:
            matches = self._granted(grants, secret)
        return matches and enrolled is not _NOBODY and enrolled.device.revoked_ns is None

    def _granted(self, grants: Sequence[Grant], secret: bytes) -> bool:
        now_ns = self._clock.now_ns()
        valid = [grant for grant in grants if grant.expires_ns >= now_ns]
        return any(hmac.compare_digest(_digest(grant.salt, secret), grant.digest) for grant in valid)

    # -- assignments

    def assign(
        self, device: str, patient: str, *, from_ns: int | None, to_ns: int | None, zone: str | None = None,
        replace: bool = False,
    ) -> Assignment:  # fmt: skip
        checked_zone(zone)
        self.device(device)
        self.patient(patient)
        if from_ns is not None and to_ns is not None and to_ns <= from_ns:
            raise InvalidRequest("to", "must be after from")
        with self._change() as (connection, version):
            rows = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.device == device)).all()
            rows = [row for row in rows if row.from_ns is None or row.from_ns != row.to_ns]
            if replace:
                for row in rows:
                    _make_room(connection, row, from_ns, to_ns, version)
                rows = []
            for row in rows:
                ends = row.to_ns
                if ends is None and from_ns is not None and _before(row.from_ns, from_ns):
                    ends = from_ns
                    connection.execute(
                        ASSIGNMENTS.update()
                        .where(ASSIGNMENTS.c.number == row.number)
                        .values(to_ns=from_ns, changed=version)
                    )
                if not (_ends_by(ends, from_ns) or _ends_by(to_ns, row.from_ns)):
                    raise InvalidRequest("from", "overlaps another assignment of the device")
            connection.execute(
                ASSIGNMENTS.insert().values(
                    device=device, patient=patient, from_ns=from_ns, to_ns=to_ns, zone=zone, changed=version
                )
            )
        mine = [one for one in self.assignments(device=device) if one.patient == patient]
        return next(one for one in reversed(mine) if one.to_ns == to_ns)

    def assignments(self, *, device: str | None = None, patient: str | None = None) -> list[Assignment]:
        with self._known() as census:
            return census.assignments_of(device, patient)


def _make_room(
    connection: sa.Connection, row: sa.Row[Any], from_ns: int | None, to_ns: int | None, version: int
) -> None:
    """Take ``from_ns <= time < to_ns`` out of an assignment; the parts that remain: none, one or two."""
    if _ends_by(row.to_ns, from_ns) or _ends_by(to_ns, row.from_ns):
        return
    before = [(row.from_ns, from_ns)] if from_ns is not None and _before(row.from_ns, from_ns) else []
    after = [(to_ns, row.to_ns)] if to_ns is not None and (row.to_ns is None or to_ns < row.to_ns) else []
    # Readers load the rows that changed, so a row whose whole time was taken stays as an empty row.
    first, *second = [*before, *after] or [(0, 0)]
    connection.execute(
        ASSIGNMENTS.update()
        .where(ASSIGNMENTS.c.number == row.number)
        .values(from_ns=first[0], to_ns=first[1], changed=version)
    )
    for start_ns, end_ns in second:
        kept = {"device": row.device, "patient": row.patient, "zone": row.zone, "changed": version}
        connection.execute(ASSIGNMENTS.insert().values(kept | {"from_ns": start_ns, "to_ns": end_ns}))


def _check_condition(condition: str | None) -> None:
    if condition is not None and not 0 < len(condition) <= MAX_CONDITION:
        raise InvalidRequest("condition", f"1 to {MAX_CONDITION} characters")


def _new_secret() -> tuple[str, dict[str, Any]]:
    secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(_SALT_BYTES)
    return secret, {"salt": salt, "digest": _digest(salt, secret.encode())}


def _before(start_ns: int | None, time_ns: int) -> bool:
    return start_ns is None or start_ns < time_ns


def _ends_by(end_ns: int | None, start_ns: int | None) -> bool:
    return end_ns is not None and start_ns is not None and end_ns <= start_ns
