"""The pages: generated parts are fresh, links lead somewhere, cited sections exist, nothing is left undocumented."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from dashboard_api.auth.access import ROLES
from deploy.settings import known_keys
from device_gateway.settings import GatewaySettings
from ingest.adapter import Adapter
from ingest.adapters import BUILT_IN, built_in
from tests.docs import adapter_pages, pages, surfaces, tables
from vitals.glossary import FLAG_MEANINGS, Flag, Reason

ROOT: Final = tables.ROOT
ALL_PAGES: Final = [*pages.pages(), *sorted(ROOT.glob("*.md"))]
FACT_PAGES: Final = {
    "device-formats": ("device-formats.md",),
    "clinical": ("clinical.md", "clinical-vitals.md"),
    "interop": ("interop.md",),
}
# "clinical.md 1.1 (codes, units), 1.3 (ranges), 2.3" and "device-formats.md`` 1" and "device-formats.md 0, 2.0".
CITATION: Final = re.compile(
    r"(?P<page>device-formats|clinical|interop)\.md`{0,2},? (?P<first>\d+(?:\.\d+)*)"
    r"(?P<more>(?:(?: \([^)]*\))?(?:,| and| to) \d+\.\d+)*)"
)
HEADING: Final = re.compile(r"^#{2,4} (\d+(?:\.\d+)*)\.? ", re.MULTILINE)


def reference(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def sources() -> list[Path]:
    """Everything that may cite a page: the code, and the notes beside fixtures."""
    folders = (*tables.PACKAGES, "tests")
    return [*(path for name in folders for path in sorted((ROOT / name).rglob("*.py"))),
            *sorted((ROOT / "tests" / "fixtures").rglob("README.md"))]  # fmt: skip


def citations(text: str) -> set[tuple[str, str]]:
    """(page, section) of every citation."""
    joined = re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)
    found = set()
    for match in CITATION.finditer(joined):
        found |= {(match["page"], number) for number in (match["first"], *re.findall(r"\d+\.\d+", match["more"]))}
    return found


def test_generated_blocks_are_fresh() -> None:
    found = [str(page.relative_to(ROOT)) for page in pages.stale()]
    assert not found, "run: python -m tests.docs.pages --write"


def test_every_block_is_on_one_page() -> None:
    used = [found["name"] for page in pages.pages() for found in pages.BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(used) == sorted(pages.BLOCKS)


def test_a_stale_block_is_noticed() -> None:
    text = "x\n<!-- generated: modes -->\n`spot`\n<!-- end -->\ny"
    assert pages.refreshed(text) == "x\n<!-- generated: modes -->\n`spot`, `continuous`\n<!-- end -->\ny"


def test_a_missing_and_a_left_over_page_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_pages, "FOLDER", tmp_path)
    (tmp_path / "telepathy.md").write_text("# gone")
    found = pages.stale()
    assert found[tmp_path / "telepathy.md"] is None
    assert found[tmp_path / "json.md"] == adapter_pages.pages()[tmp_path / "json.md"]


@pytest.mark.parametrize("adapter", [*map(built_in, BUILT_IN)], ids=lambda adapter: adapter.name)
def test_an_adapter_page_works_through_examples(adapter: Adapter) -> None:
    shown = adapter_pages.examples(adapter)
    page = reference(f"adapters/{adapter.name}.md")
    assert len(shown) <= adapter_pages.MOST_EXAMPLES
    assert any(one.expected["rejects"] for one in shown)
    for one in shown:
        part = page.partition(f"\n### {one.name.replace('_', ' ')}\n")[2].partition("\n### ")[0]
        assert "```" in part, one.name
        for reading in one.expected["readings"][: adapter_pages.MOST_ROWS]:
            assert f"| `{reading['vital']}` |" in part, one.name
        for reject in one.expected["rejects"]:
            assert f"| `{reject['reason']}` |" in part, one.name


def test_every_setting_is_documented() -> None:
    page = reference("settings.md")
    assert {item.name for item in fields(GatewaySettings)} == set(known_keys()["gateway"])
    for section, keys in known_keys().items():
        part = page.partition(f"### `[{section}]`")[2].partition("\n### ")[0]
        assert set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE)) == set(keys), section


def test_every_word_is_documented() -> None:
    page = reference("glossary.md")
    assert set(FLAG_MEANINGS) == set(Flag)
    for word in (*(reason.value for reason in Reason), *(str(flag.name).lower() for flag in Flag)):
        assert f"\n| `{word}` |" in page, word


def test_every_adapter_metric_and_role_is_documented() -> None:
    for adapter in map(built_in, BUILT_IN):
        assert f"](adapters/{adapter.name}.md)" in reference("adapters.md")
        page = reference(f"adapters/{adapter.name}.md")
        for word in (*adapter.kinds.values(), *adapter.settings, *adapter.vitals, f"vitals/DEVICE/{adapter.name}"):
            assert " ".join(word.split()).replace("|", "\\|") in page, (adapter.name, word)
    metrics = reference("metrics.md")
    assert "vitalgate_messages_total" in tables.metrics_in_code()
    for name in tables.metrics_in_code():
        assert f"| `{name}` |" in metrics
    assert f"| permission | {' | '.join(ROLES)} |" in reference("roles.md")


def test_metrics_carry_no_ids() -> None:
    for metric in tables.metrics_in_code().values():
        assert not set(metric.labels) & {"patient", "device", "message", "token"}, metric.name


def test_every_command_says_what_it_does_with_an_example() -> None:
    for name, command in surfaces.commands().items():
        assert command.help, name
        assert f"vitalgate {name}" in (command.epilog or ""), name


@pytest.mark.parametrize("option", [*sorted(surfaces.COMMON_OPTIONS)])
def test_every_command_takes_the_common_options(option: str) -> None:
    for name, command in surfaces.commands().items():
        assert option in {one.name for one in command.params}, name


def test_every_cited_section_exists() -> None:
    known = {
        name: {number for page in files for number in HEADING.findall(reference(page))}
        for name, files in FACT_PAGES.items()
    }
    cited = {
        path: citations(path.read_text(encoding="utf-8")) for path in sources() if path.parent != Path(__file__).parent
    }
    assert sum(map(len, cited.values())) > 30
    missing = {
        f"{path.relative_to(ROOT)}: {page}.md {number}"
        for path, found in cited.items()
        for page, number in found
        if number not in known[page]
    }
    assert not missing


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(clinical.md 1.3).", {("clinical", "1.3")}),
        ("clinical.md 1.1 (codes, units), 1.3 (ranges, paging age), 2.3 (staleness)",
         {("clinical", "1.1"), ("clinical", "1.3"), ("clinical", "2.3")}),
        ("``device-formats.md`` 2, then 5 more", {("device-formats", "2")}),
        ("(device-formats.md 0,\n    2.0)", {("device-formats", "0"), ("device-formats", "2.0")}),
        ("# device-formats.md\n    # 8.3, step 3", {("device-formats", "8.3")}),
        ("as in clinical.md at large", set()),
    ],
)  # fmt: skip
def test_citations_are_read(text: str, found: set[tuple[str, str]]) -> None:
    assert citations(text) == found


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as the usual renderers make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        text = page.read_text(encoding="utf-8")
        waiting += [(page.parent / name).resolve() for name in re.findall(r"\]\((?!\w+://)([^)#\s]+)", text)]
    assert set(pages.pages()) <= seen


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_speak_of_the_product_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.$])/(?:work|home|root|tmp|Users)/", text), "a path of one machine"
    assert not re.search(r"\bTODO\b|\bFIXME\b|\bTBD\b", text)
