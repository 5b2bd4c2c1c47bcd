"""Record numbers that messages state, compared with the vault."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vitals.record_numbers import RecordNumbers, plain_number
from vitals.records import NamedPatient
from vitals.vault import Identity, IdentityVault, Vault

KEY = b"k" * 32


@pytest.fixture
def identities(tmp_path: Path) -> Iterator[IdentityVault]:
    vault = IdentityVault(tmp_path / "identities.db", Vault.open(tmp_path / "vault.key").zone("identities"))
    yield vault
    vault.close()


@pytest.mark.parametrize(
    ("written", "plain"),
    [("0012-a", "12A"), (" 12 A ", "12A"), ("12.A", "12A"), ("000", ""), ("UNKNOWN", ""), ("", ""), ("Ä7", "7")],
)
def test_a_number_is_compared_without_case_punctuation_and_leading_zeros(written: str, plain: str) -> None:
    assert plain_number(written) == plain


@pytest.mark.parametrize(
    ("own", "named", "contradicts"),
    [
        ("12345", NamedPatient(("12345",)), False),
        ("00123-45", NamedPatient(("12345",)), False),
        ("ab7", NamedPatient(("AB7",)), False),
        ("12345", NamedPatient(("99", "12345")), False),
        ("12345", NamedPatient(("99",), ("12345",)), False),
        ("12345", NamedPatient(("99",)), True),
        ("12345", NamedPatient(("12346",), ("1",)), True),
        ("12345", NamedPatient(("123450",)), True),
        ("12345", NamedPatient(("UNKNOWN",)), False),
        ("12345", NamedPatient((), ("99",)), False),
        ("UNKNOWN", NamedPatient(("99",)), False),
        (None, NamedPatient(("99",)), False),
    ],
)
def test_another_patient_is_one_whose_numbers_all_differ(
    identities: IdentityVault, own: str | None, named: NamedPatient, contradicts: bool
) -> None:
    identities.put("p_1", Identity("Jane Doe", mrn=own))
    numbers = RecordNumbers(identities, KEY)
    assert numbers.contradicts("p_1", named) is contradicts


def test_a_corrected_record_number_counts_from_then_on(identities: IdentityVault) -> None:
    numbers, named = RecordNumbers(identities, KEY), NamedPatient(("12345",))
    assert not numbers.contradicts("p_1", named)
    identities.put("p_1", Identity("Jane Doe", mrn="54321"))
    assert numbers.contradicts("p_1", named)
    identities.put("p_1", Identity("Jane Doe", mrn="12345"))
    assert not numbers.contradicts("p_1", named)
    identities.put("p_1", Identity("Jane Doe", mrn="54321"))
    identities.erase("p_1")
    assert not numbers.contradicts("p_1", named)


def test_an_identity_that_cannot_be_read_contradicts_nothing(tmp_path: Path, identities: IdentityVault) -> None:
    identities.put("p_1", Identity("Jane Doe", mrn="54321"))
    foreign = IdentityVault(tmp_path / "identities.db", Vault.open(tmp_path / "other.key").zone("identities"))
    assert not RecordNumbers(foreign, KEY).contradicts("p_1", NamedPatient(("12345",)))
    foreign.close()


def test_nothing_that_is_kept_or_shown_holds_a_number(identities: IdentityVault) -> None:
    identities.put("p_1", Identity("Jane Doe", mrn="54321"))
    numbers, named = RecordNumbers(identities, KEY), NamedPatient(("12345",), ("67890",))
    assert numbers.contradicts("p_1", named)
    assert "12345" not in repr(named)
    assert "67890" not in repr(named)
    assert b"54321" not in repr(vars(numbers)).encode()


def test_of_a_patient_without_a_number_that_of_somebody_else_is_another_patient(identities: IdentityVault) -> None:
    numbers, named = RecordNumbers(identities, KEY), NamedPatient(("00555",), ("777",))
    assert not numbers.contradicts("p_1", named), "nobody has it"
    identities.put("p_2", Identity("John Doe", mrn="777"))
    assert not numbers.contradicts("p_1", named), "an account number says nothing"
    identities.put("p_2", Identity("John Doe", mrn="555"))
    assert numbers.contradicts("p_1", named)
    identities.put("p_1", Identity("Jane Doe", mrn=None))
    assert numbers.contradicts("p_1", named)
    assert not numbers.contradicts("p_2", named)
    identities.erase("p_2")
    assert not numbers.contradicts("p_1", named)


def test_what_is_kept_of_a_patient_says_the_same_in_another_process(identities: IdentityVault) -> None:
    identities.put("p_1", Identity("Jane Doe", mrn="54321"))
    kept = RecordNumbers(identities, KEY).kept(NamedPatient(("00054321", "12"), ("99",)))
    assert "54321" not in kept
    assert RecordNumbers(identities, KEY).kept(NamedPatient((), ("99",))) == ""
    again = RecordNumbers(identities, KEY)
    assert not again.contradicts("p_1", kept)
    identities.put("p_1", Identity("Jane Doe", mrn="99"))
    assert not again.contradicts("p_1", kept)
    identities.put("p_1", Identity("Jane Doe", mrn="55"))
    assert again.contradicts("p_1", kept)
    assert RecordNumbers(identities, b"o" * 32).kept(NamedPatient(("12",))) not in kept
