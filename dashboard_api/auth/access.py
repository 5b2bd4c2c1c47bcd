"""Authentication and permissions: opaque bearer tokens, one table of roles, deny by default (interop.md 7.2)."""

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import sqlalchemy as sa
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard_api.problems import Unauthenticated, unauthenticated, unavailable
from vitals.errors import BackendError, InvalidRequest, NotAuthorised
from vitals.ports import Clock
from vitals.times import DAY_S, SECOND_NS

DEFAULT_TTL_S: Final = 30 * DAY_S
MAX_TTL_S: Final = 10 * 365 * DAY_S
GUARDED: Final = "/api/"
"""Every path below it requires a token, even a path that does not exist."""
PRINCIPAL: Final = "vitalgate.principal"
"""Scope key of the caller."""
_BUSY_MS: Final = 10_000


class Permission(StrEnum):
    """What a route asks for."""

    PATIENTS_READ = "patients:read"
    PATIENTS_WRITE = "patients:write"
    VITALS_READ = "vitals:read"
    ALERTS_READ = "alerts:read"
    ALERTS_ACT = "alerts:act"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    PROGRAMMES_READ = "programmes:read"
    PROGRAMMES_WRITE = "programmes:write"
    DEVICES_READ = "devices:read"
    DEVICES_WRITE = "devices:write"
    DEVICES_ASSIGN = "devices:assign"
    QUARANTINE_READ = "quarantine:read"
    QUARANTINE_PAYLOAD = "quarantine:payload"
    QUARANTINE_REPLAY = "quarantine:replay"
    UNASSIGNED_READ = "unassigned:read"
    STREAM_READ = "stream:read"
    SYSTEM_READ = "system:read"
    TOKENS_WRITE = "tokens:write"


_VIEWER: Final = frozenset({
    Permission.PATIENTS_READ, Permission.VITALS_READ, Permission.ALERTS_READ, Permission.LIMITS_READ,
    Permission.PROGRAMMES_READ, Permission.DEVICES_READ, Permission.QUARANTINE_READ, Permission.UNASSIGNED_READ,
    Permission.STREAM_READ, Permission.SYSTEM_READ,
})  # fmt: skip

ROLES: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType({
    "admin": frozenset(Permission),
    "clinician": _VIEWER | {
        Permission.PATIENTS_WRITE, Permission.ALERTS_ACT, Permission.LIMITS_WRITE, Permission.PROGRAMMES_WRITE,
        Permission.DEVICES_ASSIGN, Permission.QUARANTINE_PAYLOAD, Permission.QUARANTINE_REPLAY,
    },
    "viewer": _VIEWER,
    "integrator": frozenset({
        Permission.DEVICES_READ, Permission.DEVICES_WRITE, Permission.DEVICES_ASSIGN, Permission.QUARANTINE_READ,
        Permission.QUARANTINE_PAYLOAD, Permission.QUARANTINE_REPLAY, Permission.UNASSIGNED_READ,
        Permission.SYSTEM_READ,
    }),
})  # fmt: skip
"""Role -> permissions. An integrator (interop.md 7.2, device_admin) sees no names and no values of patients."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. ``name`` is the author that alerts show."""

    name: str
    role: str
    permissions: frozenset[Permission]
    expires_ns: int | None = None


LOCAL: Final = Principal("local", "admin", ROLES["admin"])
"""Whoever may open the control socket of the data directory."""


def permissions_of(role: str, scope: str) -> frozenset[Permission]:
    """Permissions of a role, narrowed to ``scope`` (permission words, spaces between; empty = all of the role).

    Raises ``InvalidRequest`` for a role or permission that does not exist, or that the role does not have.
    """
    granted = ROLES.get(role)
    if granted is None:
        raise InvalidRequest("role", f"not one of {', '.join(ROLES)}")
    asked = set(scope.split())
    if not asked:
        return granted
    if not asked <= granted:
        raise InvalidRequest("scope", f"the role {role} has {' '.join(sorted(granted))}")
    return frozenset(Permission(word) for word in asked)


_METADATA: Final = sa.MetaData()
_TOKENS: Final = sa.Table(
    "api_tokens", _METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("expires_ns", sa.BigInteger, nullable=False),
    sa.Column("revoked_ns", sa.BigInteger),
)  # fmt: skip


def digest_of(token: str) -> str:
    """What is kept of a token."""
    # 256 random bits: nothing to guess, so neither salt nor slow hash; equal to find, not to compare.
    return hashlib.sha256(token.encode()).hexdigest()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


class TokenAuth:
    """API tokens at rest, as hashes. Thread-safe; raises ``BackendError`` (retryable) when the database is away."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        self.clock = clock
        self._engine = sa.create_engine(str(path) if "://" in str(path) else f"sqlite:///{path}")
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare)
        with self.transaction() as connection:
            connection.execute(sa.schema.CreateTable(_TOKENS, if_not_exists=True))

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of the database; raises ``BackendError`` (retryable) when it is away."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise BackendError(f"tokens: {error.orig}", retryable=True) from error

    def create(self, role: str, ttl_s: int | None = None, scope: str = "") -> str:
        """A new token ``vg_...`` for ``ttl_s`` seconds (30 days when None).

        Raises ``InvalidRequest`` for an unknown role, scope or a lifetime that is not 1 s to 10 years.
        """
        permissions_of(role, scope)
        lifetime_s = DEFAULT_TTL_S if ttl_s is None else ttl_s
        if not 0 < lifetime_s <= MAX_TTL_S:
            raise InvalidRequest("ttl_s", f"1 to {MAX_TTL_S} seconds")
        token, now_ns = f"vg_{secrets.token_urlsafe(32)}", self.clock.now_ns()
        with self.transaction() as connection:
            connection.execute(
                _TOKENS.insert().values(
                    digest=digest_of(token),
                    role=role,
                    scope=scope,
                    created_ns=now_ns,
                    expires_ns=now_ns + lifetime_s * SECOND_NS,
                )
            )
        return token

    def check(self, token: str) -> Principal | None:
        """Who holds the token; None when it is unknown, revoked or over its time."""
        return self.holder(digest_of(token))

    def holder(self, digest: str) -> Principal | None:
        """As ``check``, by the digest of the token."""
        with self.transaction() as connection:
            row = connection.execute(sa.select(_TOKENS).where(_TOKENS.c.digest == digest)).one_or_none()
        if row is None or row.revoked_ns is not None or row.expires_ns <= self.clock.now_ns():
            return None
        return Principal(f"{row.role}:{digest[:8]}", row.role, permissions_of(row.role, row.scope), row.expires_ns)

    def revoke(self, token: str) -> bool:
        """End a token; whether it was in force."""
        known = self.check(token) is not None
        with self.transaction() as connection:
            connection.execute(
                _TOKENS.update().where(_TOKENS.c.digest == digest_of(token)).values(revoked_ns=self.clock.now_ns())
            )
        return known

    def close(self) -> None:
        """Release connections."""
        self._engine.dispose()


def bearer(scope: Scope) -> str | None:
    """The token of the ``Authorization`` header (RFC 6750 2.1)."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None


class AuthMiddleware:
    """ASGI: no request under ``/api/`` goes on without a principal; nothing of its body is read before."""

    def __init__(self, app: ASGIApp, auth: TokenAuth) -> None:
        self._app, self._auth = app, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED) and PRINCIPAL not in scope:
            token = bearer(scope)
            try:
                principal = None if token is None else await run_in_threadpool(self._auth.check, token)
            except BackendError:
                await unavailable()(scope, receive, send)
                return
            if principal is None:
                await unauthenticated()(scope, receive, send)
                return
            scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)


def local_admin(app: ASGIApp) -> ASGIApp:
    """``app`` for the control socket: every caller is the local administrator.

    The application's own lifespan belongs to its public server; here it starts and stops at once.
    """

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        await app({**scope, PRINCIPAL: LOCAL}, receive, send)

    return local


def principal_of(request: Request) -> Principal:
    """The caller, as the gate found it."""
    principal = request.scope.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise Unauthenticated("no principal")
    return principal


Caller = Annotated[Principal, Depends(principal_of)]


def needs(permission: Permission) -> dict[str, Any]:
    """Arguments of a route that asks for ``permission``; the OpenAPI document names it as ``x-permission``."""

    def allowed(caller: Caller) -> None:
        if permission not in caller.permissions:
            raise NotAuthorised(f"{permission} is needed")

    return {"dependencies": [Depends(allowed)], "openapi_extra": {"x-permission": permission.value}}
