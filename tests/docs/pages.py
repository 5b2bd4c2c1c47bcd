"""The generated blocks of the pages under docs/: each from the one table that the code itself reads.

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the pages of adapters are generated whole.
A test fails when one is stale; ``python -m tests.docs.pages --write`` rewrites all of them.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ingest.placing.attribution import Unplaced
from tests import structure
from tests.docs import adapter_pages, protocol_tables, surfaces, tables
from tests.docs.tables import ROOT
from vitals import glossary

PAGES: Final = ROOT / "docs"
BLOCK: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = MappingProxyType({
    "settings": tables.settings_blocks,
    "metrics": tables.metrics_block,
    "reasons": lambda: tables.words_block(glossary.Reason),
    "unplaced": lambda: tables.words_block(Unplaced),
    "alert-states": lambda: tables.words_block(glossary.AlertState),
    "alert-steps": lambda: tables.words_block(glossary.AlertStep),
    "transitions": tables.transitions_block,
    "shelves": tables.shelves_block,
    "ladder": tables.ladder_block,
    "severities": tables.severities_block,
    "flags": tables.flags_block,
    "basis": tables.basis_block,
    "event-kinds": lambda: tables.words_block(glossary.EventKind),
    "control-kinds": lambda: tables.words_block(glossary.ControlKind),
    "modes": lambda: tables.plain_block(glossary.Mode),
    "statistics": lambda: tables.plain_block(glossary.Statistic),
    "adapters": adapter_pages.index_block,
    "json-members": adapter_pages.json_members_block,
    "vitals": tables.vitals_block,
    "currency": tables.currency_block,
    "coded": tables.coded_block,
    "cli": surfaces.cli_block,
    "exit-codes": surfaces.exit_codes_block,
    "http": surfaces.http_block,
    "roles": surfaces.roles_block,
    "mqtt-codes": surfaces.mqtt_codes_block,
    "connack": surfaces.connack_block,
    "sign-ins": surfaces.sign_ins_block,
    "rule-types": protocol_tables.rule_types_block,
    "comparison": protocol_tables.comparison_block,
    "rule-members": protocol_tables.common_members_block,
    "persistence": protocol_tables.persistence_block,
    "gates": protocol_tables.gates_block,
    "context": protocol_tables.context_block,
    "suppressors": protocol_tables.suppressors_block,
    "owners": protocol_tables.owners_block,
    "causes": protocol_tables.causes_block,
    "protocol-members": protocol_tables.document_block,
    "protocols": protocol_tables.protocols_block,
    "rooms": structure.rooms_block,
})  # fmt: skip
"""Block name -> what makes it."""


def pages() -> list[Path]:
    """Every page that can hold blocks."""
    return sorted(PAGES.rglob("*.md"))


def refreshed(text: str) -> str:
    """The page with every generated block as the code has it now; raises ``KeyError`` for an unknown block."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found['name']]()}\n{found['end']}", text)


def wanted() -> dict[Path, str | None]:
    """Every page as it should be, None for one that should not be there."""
    whole = adapter_pages.pages()
    left = {page: None for page in adapter_pages.FOLDER.glob("*.md") if page not in whole}
    blocks = {
        page: refreshed(page.read_text(encoding="utf-8")) for page in pages() if page.parent != adapter_pages.FOLDER
    }
    return {**blocks, **whole, **left}


def stale() -> dict[Path, str | None]:
    """The pages that are not as they should be."""
    found = {}
    for page, text in wanted().items():
        if (page.read_text(encoding="utf-8") if page.exists() else None) != text:
            found[page] = text
    return found


def main(arguments: Sequence[str]) -> int:
    """List stale pages, or with ``--write`` rewrite them."""
    found = stale()
    for page, text in found.items():
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
        if "--write" in arguments:
            if text is None:
                page.unlink()
            else:
                page.parent.mkdir(exist_ok=True)
                page.write_text(text, encoding="utf-8")
    return 0 if "--write" in arguments else min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
