"""Keys, sealing, and identities at rest."""

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.errors import BackendError, ConfigError, VitalgateError
from vitals.ports import Sealer
from vitals.vault import OVERHEAD, Identity, IdentityVault, Vault, VaultError

KEY = b"vitalgate-key-1:" + b"0f" * 32 + b"\n"
SEALER = Vault(bytes(32)).zone("raw")
IDENTITY = Identity("Marianne Beispiel", "1951-03-07", "MRN-4711-0815")


def write_key(path: Path, content: bytes = KEY, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


# Key file


def test_the_first_start_makes_a_key_that_only_the_owner_may_read(tmp_path: Path) -> None:
    Vault.open(tmp_path / "vault.key")
    assert stat.S_IMODE((tmp_path / "vault.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["vault.key"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Vault.open(tmp_path / "vault.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "vault.key").stat().st_mode) == 0o600


def test_the_next_start_opens_what_the_first_sealed(tmp_path: Path) -> None:
    sealed = Vault.open(tmp_path / "vault.key").zone("raw").seal(b"payload", b"context")
    assert Vault.open(tmp_path / "vault.key").zone("raw").open(sealed, b"context") == b"payload"


def test_two_directories_have_two_keys(tmp_path: Path) -> None:
    sealed = Vault.open(tmp_path / "one.key").zone("raw").seal(b"payload", b"")
    with pytest.raises(VaultError, match="no key with id"):
        Vault.open(tmp_path / "two.key").zone("raw").open(sealed, b"")


def _key_id(path: Path) -> bytes:
    return Vault.open(path).zone("raw").seal(b"", b"")[:5]


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        heads = pool.map(_key_id, [tmp_path / "vault.key"] * 8)
    assert len(set(heads)) == 1
    assert os.listdir(tmp_path) == ["vault.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="group or others") as caught:
        Vault.open(write_key(tmp_path / "vault.key", mode=mode))
    assert caught.value.setting == "vault.key_file"


def test_a_read_only_key_is_fine(tmp_path: Path) -> None:
    assert Vault.open(write_key(tmp_path / "vault.key", mode=0o400)).zone("raw").seal(b"", b"")


@pytest.mark.parametrize(
    "content",
    [b"", KEY[:-1], KEY + b"\n", KEY[1:], b"vitalgate-key-2:" + KEY[16:], KEY.replace(b"0f", b"zz"), os.urandom(32),
     b"\xff" * len(KEY), b"vitalgate-key-1:" + b"0f" * 31 + b"  \n"],
    ids=["empty", "no newline", "longer", "shorter", "other version", "not hex", "raw bytes", "not ascii", "spaces"],
)  # fmt: skip
def test_what_is_no_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = write_key(tmp_path / "vault.key", content)
    with pytest.raises(ConfigError, match="not a key file"):
        Vault.open(path)
    assert path.read_bytes() == content


def test_a_key_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vault\.key_file"):
        Vault.open(tmp_path)


def test_a_key_that_is_a_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        Vault.open(Path("/dev/null"))


def test_a_key_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vault\.key_file"):
        Vault.open(tmp_path / "nowhere" / "vault.key")


# Sealing


@settings(derandomize=True, deadline=None)
@given(plain=st.binary(max_size=300), context=st.binary(max_size=40))
def test_what_is_sealed_opens_under_its_context(plain: bytes, context: bytes) -> None:
    sealed = SEALER.seal(plain, context)
    assert SEALER.open(sealed, context) == plain
    assert len(sealed) == len(plain) + OVERHEAD


def test_zones_are_sealers() -> None:
    sealer: Sealer = SEALER
    assert sealer.open(sealer.seal(b"x", b"y"), b"y") == b"x"


def test_two_seals_of_the_same_bytes_differ() -> None:
    assert SEALER.seal(b"same", b"") != SEALER.seal(b"same", b"")


def test_the_format_is_version_key_id_nonce_ciphertext() -> None:
    first, second = SEALER.seal(b"one", b""), SEALER.seal(b"two", b"")
    assert first[0] == 1
    assert first[1:5] == second[1:5] != Vault(b"\x01" * 32).zone("raw").seal(b"", b"")[1:5]
    assert first[5:17] != second[5:17]


def test_a_blob_of_the_first_release_still_opens() -> None:
    sealed = bytes.fromhex(
        "0169bed5f6aaaa82ad4f306167e19e8856064f8d367414f3b3a2efebef1fa9c8cb553346293046a4603b190f17a677a30f97fbe3"
    )
    assert SEALER.open(sealed, b"golden") == b"sealed by version 1"


def test_every_bit_counts() -> None:
    sealed = SEALER.seal(b"payload", b"context")
    for position in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            with pytest.raises(VaultError):
                SEALER.open(bytes(changed), b"context")


def test_every_length_but_the_right_one_is_refused() -> None:
    sealed = SEALER.seal(b"payload", b"context")
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            SEALER.open(sealed[:length], b"context")
    with pytest.raises(VaultError):
        SEALER.open(sealed + b"\x00", b"context")


def test_context_and_zone_are_bound() -> None:
    sealed = SEALER.seal(b"payload", b"context")
    with pytest.raises(VaultError, match="context"):
        SEALER.open(sealed, b"another")
    with pytest.raises(VaultError, match="no key with id"):
        Vault(bytes(32)).zone("quarantine").open(sealed, b"context")


def test_vault_errors_are_the_pipelines_own() -> None:
    assert issubclass(VaultError, VitalgateError)


def test_threads_share_a_sealer() -> None:
    failures: list[int] = []

    def work(number: int) -> None:
        plain = bytes([number]) * 20_000
        for round_ in range(50):
            context = b"%d" % round_
            if SEALER.open(SEALER.seal(plain, context), context) != plain:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Identities


@pytest.fixture
def identities(tmp_path: Path) -> IdentityVault:
    return IdentityVault(tmp_path / "vault.db", SEALER)


def test_an_identity_comes_back(identities: IdentityVault) -> None:
    identities.put("p_1", IDENTITY)
    identities.put("p_2", Identity("Ü 名"))
    assert identities.get("p_1") == IDENTITY
    assert identities.get("p_3") is None
    assert identities.all() == {"p_1": IDENTITY, "p_2": Identity("Ü 名", None, None)}
    identities.close()


def test_put_replaces(identities: IdentityVault) -> None:
    identities.put("p_1", Identity("Before"))
    identities.put("p_1", IDENTITY)
    assert identities.all() == {"p_1": IDENTITY}
    identities.close()


def test_identities_outlive_the_process(identities: IdentityVault, tmp_path: Path) -> None:
    identities.put("p_1", IDENTITY)
    # Not closed: a second connection reads what was committed, as after a crash.
    again = IdentityVault(tmp_path / "vault.db", SEALER)
    assert again.get("p_1") == IDENTITY
    again.close()
    identities.close()


def contents(directory: Path) -> bytes:
    files = sorted(directory.iterdir())
    assert "vault.db-wal" in [file.name for file in files]
    return b"".join(file.read_bytes() for file in files)


def test_no_plain_identity_is_on_disk(identities: IdentityVault, tmp_path: Path) -> None:
    identities.put("p_1", IDENTITY)
    on_disk = contents(tmp_path)
    assert b"p_1" in on_disk
    for word in (b"Marianne", b"Beispiel", b"1951", b"4711"):
        assert word not in on_disk
    identities.close()


def test_erase_leaves_no_blob_on_disk(identities: IdentityVault, tmp_path: Path) -> None:
    identities.put("p_1", IDENTITY)
    identities.put("p_2", IDENTITY)
    head = SEALER.seal(b"", b"")[:5]
    assert contents(tmp_path).count(head) >= 2
    identities.erase("p_1")
    identities.erase("never there")
    assert identities.all() == {"p_2": IDENTITY}
    assert contents(tmp_path).count(head) == 1
    assert b"p_1" not in contents(tmp_path)
    identities.close()


def test_the_files_are_for_the_owner_only(identities: IdentityVault, tmp_path: Path) -> None:
    identities.put("p_1", IDENTITY)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"vault.db": 0o600, "vault.db-wal": 0o600, "vault.db-shm": 0o600}
    identities.close()


def test_a_blob_does_not_open_for_another_patient(identities: IdentityVault) -> None:
    identities.put("p_1", IDENTITY)
    identities._db.execute("UPDATE identities SET patient='p_2'")
    with pytest.raises(VaultError):
        identities.get("p_2")
    identities.close()


def test_another_key_opens_nothing(identities: IdentityVault, tmp_path: Path) -> None:
    identities.put("p_1", IDENTITY)
    other = IdentityVault(tmp_path / "vault.db", Vault(b"\x01" * 32).zone("identities"))
    with pytest.raises(VaultError):
        other.all()
    other.close()
    identities.close()


def test_a_file_that_cannot_be_used_is_a_backend_error(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"not a database, certainly not" * 200)
    for path in (tmp_path / "junk.db", tmp_path / "nowhere" / "vault.db"):
        with pytest.raises(BackendError, match=path.name):
            IdentityVault(path, SEALER)


def test_a_closed_vault_says_so(identities: IdentityVault) -> None:
    identities.close()
    with pytest.raises(BackendError):
        identities.get("p_1")


def test_threads_share_the_identities(identities: IdentityVault) -> None:
    def work(number: int) -> None:
        for round_ in range(10):
            identities.put(f"p_{number}", Identity(f"name {round_}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert identities.all() == {f"p_{number}": Identity("name 9") for number in range(4)}
    identities.close()
