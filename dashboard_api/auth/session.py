"""Signing in with a browser: one-time links, and sessions behind a cookie that no script can read.

A link's token works once and for minutes; a session ends after twelve hours without a person, or with the token that it
was opened with. Links and sessions are at rest as hashes. What a session writes has to come from the page itself: a
cross-site form can send neither the header ``X-Vitalgate`` nor a same-origin ``Sec-Fetch-Site`` or ``Origin``.
"""

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard_api.auth.access import GUARDED, PRINCIPAL, Principal, TokenAuth, digest_of, permissions_of
from dashboard_api.problems import problem, unavailable
from vitals.errors import BackendError
from vitals.times import DAY_S, HOUR_S, SECOND_NS

LINK_TTL_S: Final = 15 * 60
IDLE_S: Final = 12 * HOUR_S
LIFETIME_S: Final = 30 * DAY_S
TOUCH_S: Final = 60
"""How fine idleness is counted: a write per request would cost more than the minute is worth."""
SESSION: Final = "vitalgate.session"
"""Scope key of the cookie's value, for streams that ask again whether they may go on."""
_HEADER: Final = "x-vitalgate"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_METADATA: Final = sa.MetaData()
_LINKS: Final = sa.Table(
    "sign_in_links", _METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("expires_ns", sa.BigInteger, nullable=False),
    sa.Column("used_ns", sa.BigInteger),
)  # fmt: skip
_SESSIONS: Final = sa.Table(
    "sessions", _METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("token", sa.String(64)),  # digest of the API token that it was opened with
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("seen_ns", sa.BigInteger, nullable=False),
)  # fmt: skip


class Sessions:
    """One-time links and browser sessions, in the database of the API tokens.

    Thread-safe; raises ``BackendError`` (retryable) when the database is away.
    """

    def __init__(self, auth: TokenAuth) -> None:
        self._auth, self._clock = auth, auth.clock
        with auth.transaction() as connection:
            for table in (_LINKS, _SESSIONS):
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))

    def link(self, role: str, ttl_s: int = LINK_TTL_S) -> str:
        """The token of a new one-time link; raises ``InvalidRequest`` for an unknown role."""
        permissions_of(role, "")
        token, now_ns = secrets.token_urlsafe(32), self._clock.now_ns()
        with self._auth.transaction() as connection:
            connection.execute(_LINKS.delete().where(_LINKS.c.expires_ns <= now_ns))
            connection.execute(
                _LINKS.insert().values(digest=digest_of(token), role=role, expires_ns=now_ns + ttl_s * SECOND_NS)
            )
        return token

    def redeem(self, token: str) -> str | None:
        """The cookie of a new session for a link's token; None when it was used, is over its time or unknown."""
        now_ns = self._clock.now_ns()
        unused = (_LINKS.c.digest == digest_of(token)) & _LINKS.c.used_ns.is_(None) & (_LINKS.c.expires_ns > now_ns)
        with self._auth.transaction() as connection:
            # One statement decides: of two that come at once, one finds the link unused.
            if connection.execute(_LINKS.update().where(unused).values(used_ns=now_ns)).rowcount != 1:
                return None
            row = connection.execute(sa.select(_LINKS).where(_LINKS.c.digest == digest_of(token))).one()
            return self._open(connection, row.role, None)

    def open(self, token: str) -> str | None:
        """The cookie of a new session with the rights of an API token; None when that is not in force."""
        holder = self._auth.check(token)
        if holder is None:
            return None
        with self._auth.transaction() as connection:
            return self._open(connection, holder.role, digest_of(token))

    def _open(self, connection: sa.Connection, role: str, token: str | None) -> str:
        cookie, now_ns = secrets.token_urlsafe(32), self._clock.now_ns()
        connection.execute(_SESSIONS.delete().where(_SESSIONS.c.seen_ns <= now_ns - IDLE_S * SECOND_NS))
        connection.execute(
            _SESSIONS.insert().values(
                digest=digest_of(cookie), role=role, token=token, created_ns=now_ns, seen_ns=now_ns
            )
        )
        return cookie

    def check(self, cookie: str, *, seen: bool = False) -> Principal | None:
        """Whose session it is; None when it is over. ``seen`` says that a person acts, which keeps it open."""
        digest, now_ns = digest_of(cookie), self._clock.now_ns()
        this = _SESSIONS.c.digest == digest
        with self._auth.transaction() as connection:
            row = connection.execute(sa.select(_SESSIONS).where(this)).one_or_none()
            if row is None or min(row.seen_ns + IDLE_S * SECOND_NS, row.created_ns + LIFETIME_S * SECOND_NS) <= now_ns:
                return None
            if seen and now_ns - row.seen_ns >= TOUCH_S * SECOND_NS:
                connection.execute(_SESSIONS.update().where(this).values(seen_ns=now_ns))
        if row.token is not None:
            return self._auth.holder(row.token)
        return Principal(f"{row.role}:{digest[:8]}", row.role, permissions_of(row.role, ""))

    def end(self, cookie: str) -> None:
        """Sign out; harmless when the session is over."""
        with self._auth.transaction() as connection:
            connection.execute(_SESSIONS.delete().where(_SESSIONS.c.digest == digest_of(cookie)))


def cookie_name(scope: Scope) -> str:
    """Browsers share cookies between the ports of a host: each server names its own."""
    server = scope.get("server")
    return f"vitalgate_{server[1] if server else 0}"


def cookie_of(scope: Scope) -> str | None:
    """The session cookie of a request."""
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(cookie_name(scope))
    except CookieError:
        return None
    return None if found is None else found.value


def from_page(scope: Scope) -> bool:
    """Whether a request comes from a page of this server: what a form or script of another site cannot forge."""
    headers = Headers(scope=scope)
    if _HEADER not in headers or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"{scope['scheme']}://{headers.get('host', '')}"


class SessionGate:
    """ASGI: a session cookie stands for its principal where no ``Authorization`` header does."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED) or PRINCIPAL in scope:
            await self._app(scope, receive, send)
            return
        headers, cookie = Headers(scope=scope), cookie_of(scope)
        if cookie is None or "authorization" in headers:
            await self._app(scope, receive, send)
            return
        if scope["method"] not in _SAFE and not from_page(scope):
            await problem(403, "a session writes from its own page only")(scope, receive, send)
            return
        try:
            principal = await run_in_threadpool(self._sessions.check, cookie, seen=_HEADER in headers)
        except BackendError:
            await unavailable()(scope, receive, send)
            return
        if principal is not None:
            scope = {**scope, PRINCIPAL: principal, SESSION: cookie}
        await self._app(scope, receive, send)
