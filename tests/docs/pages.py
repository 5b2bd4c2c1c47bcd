"""The generated blocks of the pages under docs/: each from the one table that the code itself reads.

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. A test fails when one is stale;
``python -m tests.docs.pages --write`` rewrites all of them.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ingest.attribution import Unplaced
from tests.docs import surfaces, tables
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
    "transitions": tables.transitions_block,
    "shelves": tables.shelves_block,
    "severities": tables.severities_block,
    "flags": tables.flags_block,
    "basis": tables.basis_block,
    "event-kinds": lambda: tables.words_block(glossary.EventKind),
    "control-kinds": lambda: tables.words_block(glossary.ControlKind),
    "modes": lambda: tables.plain_block(glossary.Mode),
    "statistics": lambda: tables.plain_block(glossary.Statistic),
    "adapters": tables.adapters_block,
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
})  # fmt: skip
"""Block name -> what makes it."""


def pages() -> list[Path]:
    """Every page that can hold blocks."""
    return sorted(PAGES.rglob("*.md"))


def refreshed(text: str) -> str:
    """The page with every generated block as the code has it now; raises ``KeyError`` for an unknown block."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found['name']]()}\n{found['end']}", text)


def main(arguments: Sequence[str]) -> int:
    """List stale pages, or with ``--write`` rewrite them."""
    stale = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text)
        if fresh == text:
            continue
        stale += 1
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
        if "--write" in arguments:
            page.write_text(fresh, encoding="utf-8")
    return 0 if "--write" in arguments else min(stale, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
