"""Which adapters there are: built-in ones, and those of installed packages."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.adapters import BUILT_IN, GROUP, built_in, load_adapters
from vitals.catalog import BY_KEY
from vitals.errors import ConfigError

Install = Callable[..., None]

MODULE = """
from ingest.adapter import Adapter, Decoded, ReadingsBuilder

def decode(messages, contexts):
    return Decoded(ReadingsBuilder().build())

def adapter(name="acme_cuff", kinds={"": "anything"}, vitals=frozenset({"bp_sys"})):
    return Adapter(name, 1, "Acme cuff", kinds, vitals, decode)

ADAPTER = adapter()
NAMED_JSON = adapter(name="json")
BAD_NAME = adapter(name="acme/cuff")
NO_KINDS = adapter(kinds={})
BAD_VITALS = adapter(vitals=frozenset({"aura", "bp_sys", "karma"}))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package whose entry points are given as text."""

    def install(*entries: str, module: str = MODULE, name: str = "acme_adapters") -> None:
        (tmp_path / f"{name}.py").write_text(module)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *entries]) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_built_in_names_are_unique_and_declare_what_exists() -> None:
    assert sorted(BUILT_IN) == [
        "apple_health", "ble_battery", "ble_blood_pressure", "ble_cgm", "ble_glucose", "ble_heart_rate",
        "ble_plx", "ble_scale", "ble_thermometer", "clarity", "dexcom", "fhir", "fitbit", "health_auto_export",
        "hl7v2", "ihealth", "json", "nightscout", "omh", "withings",
    ]  # fmt: skip
    for name in BUILT_IN:
        adapter = built_in(name)
        assert adapter.name == name
        assert adapter.vitals <= BY_KEY.keys(), adapter.name
        assert not any(BY_KEY[key].panel for key in adapter.vitals), adapter.name
        assert adapter.kinds
        assert all(adapter.kinds.values()), adapter.name
        assert adapter.version >= 1
        assert 0 < adapter.max_payload <= 255 * 1024, adapter.name


def test_without_other_packages_there_are_the_built_in_ones() -> None:
    assert load_adapters() == {name: built_in(name) for name in BUILT_IN}


def test_an_installed_adapter_is_loaded(install: Install) -> None:
    install("cuff = acme_adapters:ADAPTER")
    adapters = load_adapters()
    assert list(adapters) == [*BUILT_IN, "acme_cuff"]
    assert adapters["acme_cuff"].title == "Acme cuff"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("cuff = acme_missing:ADAPTER", "acme_missing:ADAPTER does not load: ModuleNotFoundError"),
        ("cuff = acme_adapters:NOTHING", "acme_adapters:NOTHING does not load: AttributeError"),
        ("cuff = acme_adapters:decode", "is a function, not an ingest.adapter.Adapter"),
        ("cuff = acme_adapters:NAMED_JSON", "takes the name 'json', which is taken"),
        ("cuff = acme_adapters:BAD_NAME", "name 'acme/cuff' is not fit for a topic"),
        ("cuff = acme_adapters:NO_KINDS", "has no kinds"),
        ("cuff = acme_adapters:BAD_VITALS", "not in the catalogue: aura, karma"),
    ],
)
def test_a_bad_entry_point_is_named(install: Install, entry: str, problem: str) -> None:
    install(entry)
    with pytest.raises(ConfigError, match=r"^adapters\.cuff: ") as caught:
        load_adapters()
    assert problem in str(caught.value)
    assert caught.value.setting == "adapters.cuff"


@pytest.mark.parametrize("module", ["raise ValueError('bad table')", "import nothing_like_this", "def ("])
def test_a_module_that_fails_to_import_is_named(install: Install, module: str) -> None:
    install("cuff = acme_adapters:ADAPTER", module=module)
    with pytest.raises(ConfigError, match=r"^adapters\.cuff: acme_adapters:ADAPTER does not load: "):
        load_adapters()


def test_two_packages_may_not_take_one_name(install: Install) -> None:
    install("cuff = acme_adapters:ADAPTER", "cuff_again = acme_adapters:ADAPTER")
    with pytest.raises(ConfigError, match=r"^adapters\.cuff_again: .* takes the name 'acme_cuff'"):
        load_adapters()
