"""Every MDC code of the allow-list has a source that states it; none is written from memory."""

import re
from pathlib import Path
from typing import Final

import pytest

from ingest.adapters.hl7 import mdc

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
CASES: Final = Path(__file__).parent / "cases" / "hl7v2"
STATED: Final = {
    "clinical.md 1.1": {
        147842: "ECG_HEART_RATE", 149530: "PULS_OXIM_PULS_RATE", 149546: "PULS_RATE_NON_INV",
        150456: "PULS_OXIM_SAT_O2", 151562: "RESP_RATE", 150021: "PRESS_BLD_NONINV_SYS", 150022: "PRESS_BLD_NONINV_DIA",
        150023: "PRESS_BLD_NONINV_MEAN", 150364: "TEMP_BODY", 188424: "TEMP_ORAL", 188428: "TEMP_EAR",
        188452: "TEMP_AXILLA", 150392: "TEMP_TYMP", 160184: "CONC_GLU_CAPILLARY_WHOLEBLOOD",
        160188: "CONC_GLU_CAPILLARY_PLASMA", 160212: "CONC_GLU_ISF", 160364: "CONC_GLU_UNDETERMINED_WHOLEBLOOD",
        160368: "CONC_GLU_UNDETERMINED_PLASMA", 188736: "MASS_BODY_ACTUAL", 188740: "LEN_BODY_ACTUAL",
        188752: "RATIO_MASS_BODY_LEN_SQ", 188748: "BODY_FAT", 150448: "PULS_OXIM_PERF_REL", 150488: "BLD_PERF_INDEX",
        147240: "ECG_TIME_PD_RR_GL", 8454247: "HF_DISTANCE", 8455148: "HF_ACT_SLEEP",
        152584: "FLOW_AWAY_EXP_FORCED_PEAK", 152586: "VOL_AWAY_EXP_FORCED_1S", 188928: "VOL_AWAY_EXP_FORCED_CAPACITY",
        188948: "RATIO_AWAY_EXP_FORCED_1S_FVC", 184327: "ECG_STAT_RHY",
    },
    "device-formats.md 6.3": {
        150303: "", 160020: "", 160192: "", 160196: "", 160200: "", 160204: "", 160208: "",
    },
    "interop.md 2.2": {150301: "PRESS_CUFF_SYS"},
    "requirement: codes of bedside monitors": {149522: "", 151586: "", 151658: ""},
}  # fmt: skip
"""The numbers and reference names as those pages state them, copied by hand from the pages, not from the table."""


def section(source: str) -> str:
    """The text of a section: ``interop.md 2.2``. Part 1 of clinical.md is a page of its own."""
    page, number = source.split()
    page = "clinical-vitals.md" if page == "clinical.md" and number.startswith("1.") else page
    text = (REFERENCE / page).read_text(encoding="utf-8")
    found = re.search(rf"^### {re.escape(number)} .*?(?=^##)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("code", mdc.CODES, ids=lambda code: str(code.number))
def test_a_code_is_stated_by_its_source(code: mdc.MdcCode) -> None:
    if not code.source.startswith("case "):
        assert code.name.removeprefix("MDC_") == STATED[code.source][code.number]
        if ".md" in code.source:
            assert re.search(rf"\b{code.number}\b|/ {code.number % 10}\b", section(code.source))
        return
    text = (CASES / code.source.removeprefix("case ") / "input.hl7").read_text(encoding="latin-1")
    if code.name:
        assert f"|{code.number}^{code.name}^MDC|" in text
    else:
        assert re.search(rf"\|{code.number >> 16:04x}-{code.number & 0xFFFF:04x}\^[^|]*\^MDIL\|", text)


def test_each_stated_code_is_in_the_table_once() -> None:
    numbers = [code.number for code in mdc.CODES]
    assert len(set(numbers)) == len(numbers)
    assert {number for stated in STATED.values() for number in stated} <= set(numbers)
