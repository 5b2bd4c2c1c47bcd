"""Durable MQTT sessions: state that outlives a connection and a crash, in the raw log's file.

The event loop holds the truth in memory and describes every change as SQL for the batch that is collecting; changes
are applied in the order of events, in the same transaction as the messages received meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vitals.log.local import LocalLog
from vitals.times import SECOND_NS

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions(
  device TEXT NOT NULL, client TEXT NOT NULL, version INTEGER NOT NULL, expiry_s INTEGER NOT NULL, ended_ns INTEGER,
  PRIMARY KEY(device, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held(
  device TEXT NOT NULL, client TEXT NOT NULL, packet_id INTEGER NOT NULL,
  PRIMARY KEY(device, client, packet_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS online(device TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received(device TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
"""Tables beside the log: sessions, QoS 2 packet ids held between PUBREC and PUBCOMP, devices that are connected, and
messages received per device (the message ledger's left side). Pass it to ``LocalLog(schema=...)``."""

RECEIVED: Final = "INSERT INTO received VALUES(?,?) ON CONFLICT(device) DO UPDATE SET n = n + excluded.n"
_PUT = "INSERT OR REPLACE INTO sessions VALUES(?,?,?,?,?)"
_DROP = "DELETE FROM sessions WHERE device=? AND client=?"
_DROP_HELD = "DELETE FROM held WHERE device=? AND client=?"
_HOLD = "INSERT OR IGNORE INTO held VALUES(?,?,?)"
_RELEASE = "DELETE FROM held WHERE device=? AND client=? AND packet_id=?"
_ONLINE = "INSERT OR IGNORE INTO online VALUES(?)"
_OFFLINE = "DELETE FROM online WHERE device=?"


class SessionKey(NamedTuple):
    """Whose session: client ids are unique per device, not over all devices."""

    device: str
    client: str


class Change(NamedTuple):
    """One statement on the tables above."""

    sql: str
    arguments: tuple[object, ...]


class Ticket:
    """A logged QoS 1 message that may be resent; the batcher's writer sets ``ordinal`` when it knows the log row."""

    __slots__ = ("digest", "ordinal")

    def __init__(self, digest: int) -> None:
        self.digest, self.ordinal = digest, -1


@dataclass(slots=True, eq=False)
class StoredSession:
    """One session. ``held`` are QoS 2 packet ids between PUBREC and PUBCOMP; ``recent`` packet id -> ticket of the
    latest QoS 1 messages, oldest first (memory only). ``durable`` says that it has rows."""

    key: SessionKey
    version: int
    expiry_s: int
    durable: bool
    ended_ns: int | None = None
    held: set[int] = field(default_factory=set)
    recent: dict[int, Ticket] = field(default_factory=dict)
    subscribed: bool = False

    def _row(self) -> Change:
        return Change(_PUT, (*self.key, self.version, self.expiry_s, self.ended_ns))

    def expired(self, now_ns: int) -> bool:
        """Whether it ended longer than its expiry ago."""
        return self.ended_ns is not None and now_ns - self.ended_ns >= self.expiry_s * SECOND_NS

    def hold(self, packet_id: int) -> list[Change]:
        """The rows that make a QoS 2 packet id survive; none for a session that ends with its connection."""
        return [Change(_HOLD, (*self.key, packet_id))] if self.durable else []

    def release(self, packet_id: int) -> list[Change]:
        """The inverse of ``hold``."""
        return [Change(_RELEASE, (*self.key, packet_id))] if self.durable else []


class SessionStore:
    """All sessions, and the connected devices."""

    def __init__(self) -> None:
        self._sessions: dict[SessionKey, StoredSession] = {}

    @classmethod
    def load(cls, log: LocalLog, now_ns: int) -> tuple["SessionStore", list[Change], list[str]]:
        """Read the tables after a start.

        Returns:
            The store, the changes that a crash left to be made (sessions without an end end now), and the devices
            that were connected when the gateway died.

        Raises:
            BackendError: the file cannot be read.
        """
        store = cls()
        changes = []
        for device, client, version, expiry_s, ended_ns in log.query("SELECT * FROM sessions"):
            session = StoredSession(SessionKey(device, client), version, expiry_s, durable=True, ended_ns=ended_ns)
            store._sessions[session.key] = session
            if ended_ns is None:
                changes += store.end(session, now_ns)
        for device, client, packet_id in log.query("SELECT * FROM held"):
            store._sessions[SessionKey(device, client)].held.add(packet_id)
        return store, changes, [device for (device,) in log.query("SELECT device FROM online ORDER BY device")]

    def __iter__(self) -> Iterator[StoredSession]:
        return iter(self._sessions.values())

    def open(
        self, key: SessionKey, version: int, expiry_s: int, now_ns: int, *, clean: bool = False
    ) -> tuple[StoredSession, bool, list[Change]]:
        """Start or resume the session of an accepted CONNECT; a ``clean`` one never resumes.

        Returns:
            The session, whether it was present, and the changes to make durable before CONNACK.
        """
        known = self._sessions.get(key)
        # A session without expiry ends with its connection, also when that is being taken over just now.
        if known is not None and not clean and known.expiry_s and not known.expired(now_ns):
            known.version, known.expiry_s, known.ended_ns = version, expiry_s, None
            return known, True, [known._row()]
        changes = self._drop(known) if known is not None else []
        session = StoredSession(key, version, expiry_s, durable=expiry_s > 0)
        self._sessions[key] = session
        return session, False, [*changes, session._row()] if session.durable else changes

    def end(self, session: StoredSession, now_ns: int) -> list[Change]:
        """The connection of ``session`` ended: it waits for its expiry, or ends at once when that is 0."""
        session.ended_ns = now_ns
        if session.expiry_s == 0:
            return self._drop(session)
        return [session._row()]

    def expire(self, now_ns: int) -> list[Change]:
        """Drop sessions whose expiry has passed without a new connection."""
        over = [session for session in self if session.expired(now_ns)]
        return [change for session in over for change in self._drop(session)]

    def _drop(self, session: StoredSession) -> list[Change]:
        del self._sessions[session.key]
        if not session.durable:
            return []
        return [Change(_DROP, tuple(session.key)), Change(_DROP_HELD, tuple(session.key))]


def presence(device: str, *, online: bool) -> Change:
    """Store the connected devices, so that a crash does not leave a device online for ever."""
    return Change(_ONLINE if online else _OFFLINE, (device,))
