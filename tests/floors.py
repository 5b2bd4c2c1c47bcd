"""Coverage floors per package: ``python -m tests.floors REPORT`` reads what ``coverage json`` wrote.

The report covers lines and branches. A package without a floor is printed and not judged.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

FLOORS: Final[Mapping[str, float]] = MappingProxyType({
    "vitals": 97.5, "device_gateway": 81.5, "ingest": 91.5, "alerts": 97.5, "dashboard_api": 96.9, "simulators": 97.5,
})  # fmt: skip
"""Per cent of lines and branches together, about a point below what the suites in ``.ci/run`` cover.

``deploy`` has none: its tests run it in processes of its own."""


def covered(report: Mapping[str, Any]) -> dict[str, float]:
    """Per cent covered of each package that has files in the report."""
    sums: dict[str, list[int]] = {}
    for name, file in report["files"].items():
        part, whole = sums.setdefault(Path(name).parts[0], [0, 0])
        summary = file["summary"]
        part += summary["covered_lines"] + summary.get("covered_branches", 0)
        whole += summary["num_statements"] + summary.get("num_branches", 0)
        sums[Path(name).parts[0]] = [part, whole]
    return {package: 100.0 * part / whole for package, (part, whole) in sums.items() if whole}


def below(report: Mapping[str, Any]) -> list[str]:
    """A line for each package under its floor; a package without files in the report is at 0."""
    found = covered(report)
    return [
        f"{package}: {found.get(package, 0.0):.1f} % covered, floor {floor:.1f} %"
        for package, floor in FLOORS.items()
        if found.get(package, 0.0) < floor
    ]


def main(path: Path) -> int:
    """Print the figures; 1 when a package is under its floor."""
    report = json.loads(path.read_text(encoding="utf-8"))
    figures = covered(report)
    sys.stdout.write("coverage: " + ", ".join(f"{name} {figures[name]:.1f} %" for name in sorted(figures)) + "\n")
    low = below(report)
    sys.stderr.writelines(f"{line}\n" for line in low)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
