"""Keys, authenticated encryption of the zones at rest, and the one store of identities.

A sealed blob is ``version u8 | key id 4 bytes | nonce 12 bytes | ciphertext and tag``; version and key id are
authenticated with the caller's context. Every zone (raw log, quarantine, identities) has its own sub-key, derived
from the key file by HKDF-SHA256, so a blob of one zone does not open in another. The key id names the sub-key, which
leaves room for rotation: several keys may open, one seals.
"""

import os
import re
import secrets
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vitals.errors import BackendError, ConfigError, VitalgateError
from vitals.ports import Sealer

VERSION = 1
SETTING = "vault.key_file"
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES
OVERHEAD = _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES
"""Bytes that sealing adds to a blob."""
_KEY_PREFIX = b"vitalgate-key-1:"
_KEY_FILE_LIMIT = 1024
_KEY_FILE = re.compile(_KEY_PREFIX + rb"([0-9a-f]{64})\n")


class VaultError(VitalgateError):
    """A sealed blob does not open: unknown key, wrong context, or changed bytes."""


def _derive(key: bytes, purpose: str, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"vitalgate:" + purpose.encode()).derive(key)


class ZoneSealer:
    """Sealer of one zone: AES-256-GCM with a random nonce per blob. Thread-safe.

    Random 96-bit nonces are safe up to 2**32 blobs per key (NIST SP 800-38D 8.3): at ten blobs a second, 13 years.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._head = bytes([VERSION]) + _derive(key, "key-id", _KEY_ID_BYTES)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt ``plain``, bound to ``context``; ``OVERHEAD`` bytes longer."""
        nonce = os.urandom(_NONCE_BYTES)
        return b"".join((self._head, nonce, self._cipher.encrypt(nonce, plain, self._head + context)))

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The inverse of :meth:`seal`.

        Raises:
            VaultError: too short, another version, a key that is not held, or a tag that does not match.
        """
        if len(sealed) < OVERHEAD:
            raise VaultError(f"sealed blob of {len(sealed)} bytes")
        head = bytes(sealed[:_HEAD_BYTES])
        if head[0] != VERSION:
            raise VaultError(f"sealed format version {head[0]}")
        if head != self._head:
            raise VaultError(f"no key with id {head[1:].hex()}")
        view = memoryview(sealed)
        nonce, body = view[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES], view[_HEAD_BYTES + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, body, head + context)
        except InvalidTag as error:
            raise VaultError("sealed blob does not match its key and context") from error


class Vault:
    """The key of a data directory. It seals nothing itself: every use takes the sealer of its zone."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, key_path: Path) -> "Vault":
        """Read the key file, or create it (mode 0600) if it does not exist.

        Raises:
            ConfigError: the file is readable or writable by group or others, is no key file, or cannot be read or made.
        """
        try:
            if not key_path.exists():
                _create_key(key_path)
            return cls(_read_key(key_path))
        except OSError as error:
            raise ConfigError(SETTING, f"{key_path.name}: {error.strerror}") from error

    def zone(self, name: str) -> ZoneSealer:
        """The sealer of a zone, such as ``raw``, ``quarantine`` or ``identities``."""
        return ZoneSealer(_derive(self._key, f"zone:{name}", _KEY_BYTES))

    def digest_key(self, name: str) -> bytes:
        """The key of digests that stand for what must not be kept, such as ``record_numbers``; the same for ever."""
        return _derive(self._key, f"digest:{name}", _KEY_BYTES)


def _create_key(path: Path) -> None:
    """Publish a whole key file under ``path`` or leave none: a crash half-way must not leave an unreadable key."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_KEY_PREFIX + secrets.token_bytes(_KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces: of two processes that start together one key wins, both read it.
        with suppress(FileExistsError):
            os.link(staged, path)
    finally:
        staged.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(SETTING, f"{path.name} is not a regular file")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(SETTING, f"{path.name} is open to group or others (mode {mode & 0o777:04o}), wants 0600")
        content = file.read(_KEY_FILE_LIMIT)
    match = _KEY_FILE.fullmatch(content)
    if match is None:
        raise ConfigError(SETTING, f"{path.name} is not a key file: {_KEY_FILE.pattern.decode()!r} expected")
    return bytes.fromhex(match[1].decode())


class Identity(msgspec.Struct, frozen=True):
    """The person behind a patient token. ``birth_date`` is an ISO date, ``mrn`` the medical record number."""

    name: str
    birth_date: str | None = None
    mrn: str | None = None


_IDENTITY_SCHEMA = "CREATE TABLE IF NOT EXISTS identities(patient TEXT PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID"


class IdentityVault:
    """Patient token -> :class:`Identity`, one sealed blob each, in one SQLite file. Thread-safe.

    Blobs are bound to their token: swapped rows do not open. Every method raises ``BackendError`` when the file cannot
    be read or written, and readers raise ``VaultError`` when a blob does not open.
    """

    def __init__(self, path: Path, sealer: Sealer) -> None:
        self._path, self._sealer = path, sealer
        self.version = 0
        """Changes with every write of this object: the key of a reader's cache."""
        self._lock = threading.Lock()
        try:
            # SQLite gives its side files the mode of the file they belong to.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA secure_delete=ON"):
                self._db.execute(statement)
            self._db.execute(_IDENTITY_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise BackendError(f"{path.name}: {error}", retryable=True) from error

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise BackendError(f"{self._path.name}: {error}", retryable=True) from error

    def put(self, patient: str, identity: Identity) -> None:
        """Store or replace; durable on return."""
        sealed = self._sealer.seal(msgspec.msgpack.encode(identity), _identity_context(patient))
        with self._using() as db:
            db.execute(
                "INSERT INTO identities(patient, sealed) VALUES(?,?) ON CONFLICT DO UPDATE SET sealed=excluded.sealed",
                (patient, sealed),
            )
            self.version += 1

    def get(self, patient: str) -> Identity | None:
        """The identity of a patient, None if none is stored."""
        with self._using() as db:
            row = db.execute("SELECT sealed FROM identities WHERE patient=?", (patient,)).fetchone()
        return None if row is None else self._open(patient, row[0])

    def all(self) -> dict[str, Identity]:
        """Every identity by patient token."""
        with self._using() as db:
            rows = db.execute("SELECT patient, sealed FROM identities ORDER BY patient").fetchall()
        return {patient: self._open(patient, sealed) for patient, sealed in rows}

    def erase(self, patient: str) -> None:
        """Forget a patient: the sealed blob is overwritten in the file and its write-ahead log emptied."""
        with self._using() as db:
            db.execute("DELETE FROM identities WHERE patient=?", (patient,))
            self.version += 1
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Release the file."""
        with self._using() as db:
            db.close()

    def _open(self, patient: str, sealed: bytes) -> Identity:
        plain = self._sealer.open(sealed, _identity_context(patient))
        return msgspec.msgpack.decode(plain, type=Identity)


def _identity_context(patient: str) -> bytes:
    return b"identity:" + patient.encode()
