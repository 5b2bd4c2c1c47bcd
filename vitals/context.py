"""Members of the clinical context of a patient: the one table that rules, scores, HTTP API, CLI, page and docs follow.

The context is recorded by a person, dated and non-identifying. No member is inferred from a diagnosis or a reading.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

Recorded = str | int | bool
USUAL_SPO2: Final = (70, 100)
"""Least and most that may be recorded as usual saturation, in %; under 70 a value is suspect (clinical.md 1.3)."""
RULES: Final = "rules ask about it"
SHOWN: Final = "clinicians see it; no rule asks about it"


class ContextMember(NamedTuple):
    """A member, as ``spo2_scale``.

    ``values`` maps what may be recorded to a clause (``the patient gets oxygen``), beginning with ``unset``, the value
    while nobody has recorded it. ``short`` maps a value to a few words for the patient's header; a value that is not in
    it is not shown there. A member with ``span`` takes any whole number from its first to its last, and ``unset``.
    """

    key: str
    asks: str
    unset: Recorded
    values: Mapping[Recorded, str]
    short: Mapping[Recorded, str]
    effect: str
    span: tuple[int, int] | None = None


def _known(
    key: str, asks: str, clauses: tuple[str, str, str], shorts: tuple[str, str, str], effect: str
) -> ContextMember:
    """A member that is ``unknown``, ``no`` or ``yes``; words in this order, no short word where it is empty."""
    words = ("unknown", "no", "yes")
    values: dict[Recorded, str] = dict(zip(words, clauses, strict=True))
    short: dict[Recorded, str] = {word: text for word, text in zip(words, shorts, strict=True) if text}
    return ContextMember(key, asks, "unknown", values, short, effect)


CONTEXT: Final[tuple[ContextMember, ...]] = (
    ContextMember(
        "age_band", "age group", "unknown",
        {"unknown": "it is not recorded whether the patient is an adult", "under_16": "the patient is under 16",
         "adult": "the patient is an adult"},
        {"unknown": "age not recorded", "under_16": "under 16", "adult": "adult"},
        f"{RULES}; protocols and NEWS2 are for adults",
    ),
    _known(
        "pregnancy", "pregnancy",
        ("it is not recorded whether the patient is pregnant", "the patient is not pregnant",
         "the patient is pregnant"),
        ("pregnancy not recorded", "not pregnant", "pregnant"),
        f"{RULES}: obstetric limits of pressure and glucose; no NEWS2 in pregnancy",
    ),
    _known(
        "oxygen", "oxygen",
        ("it is not recorded whether the patient gets oxygen", "the patient gets no oxygen", "the patient gets oxygen"),
        ("oxygen not recorded", "on air", "on oxygen"),
        f"{RULES}: too much oxygen",
    ),
    ContextMember(
        "spo2_scale", "oxygen saturation scale", 0,
        {0: "it is not recorded which saturation target the patient has",
         1: "the patient has the usual saturation target",
         2: "the patient has a saturation target of 88 to 92 %"},
        {0: "SpO₂ scale not set", 1: "SpO₂ scale 1", 2: "SpO₂ scale 2 (88–92 %)"},
        f"{RULES}: limits of saturation, NEWS2",
    ),
    _known(
        "known_af", "known atrial fibrillation",
        ("it is not recorded whether the patient has atrial fibrillation",
         "the patient has no known atrial fibrillation", "the patient has known atrial fibrillation"),
        ("AF not recorded", "no AF", "known AF"),
        f"{RULES}: new atrial fibrillation",
    ),
    ContextMember(
        "usual_confusion", "confusion is usual for the patient", False,
        {False: "confusion is not usual for the patient", True: "confusion is usual for the patient"},
        {True: "confusion is usual"}, "NEWS2 counts the usual confusion as alert",
    ),
    _known(
        "postpartum", "within six weeks after birth",
        ("it is not recorded whether the patient gave birth in the last six weeks",
         "the patient did not give birth in the last six weeks", "the patient gave birth in the last six weeks"),
        ("", "", "gave birth in the last six weeks"),
        f"{RULES}: obstetric limits of pressure",
    ),
    _known(
        "mechanical_support", "mechanical circulatory support",
        ("it is not recorded whether the patient has mechanical circulatory support",
         "the patient has no mechanical circulatory support", "the patient has mechanical circulatory support"),
        ("", "", "mechanical circulatory support: no BP, pulse or SpO₂ rules"),
        "rules of systolic and diastolic pressure, pulse, saturation and scores do not apply; a programme with a low "
        "limit of mean arterial pressure is required",
    ),
    _known(
        "trained_or_paced", "low pulse by training or pacemaker",
        ("it is not recorded whether a low pulse is usual for the patient by training or pacemaker",
         "a low pulse is not usual for the patient", "a low pulse is usual for the patient (training or pacemaker)"),
        ("", "", "trained or paced"),
        f"{RULES}: a pulse of 41 to 50",
    ),
    ContextMember(
        "usual_spo2", "usual saturation in %, as a clinician recorded it", 0, {0: "no usual saturation is recorded"},
        {}, SHOWN, USUAL_SPO2,
    ),
    _known(
        "treatment_limits", "limits of treatment that were agreed with the patient",
        ("it is not recorded whether limits of treatment were agreed", "no limits of treatment were agreed",
         "limits of treatment were agreed"),
        ("", "", "limits of treatment agreed: see the record"),
        SHOWN,
    ),
)  # fmt: skip
CONTEXT_BY_KEY: Final[Mapping[str, ContextMember]] = MappingProxyType({one.key: one for one in CONTEXT})
NEVER_SET: Final[Mapping[str, Recorded]] = MappingProxyType({one.key: one.unset for one in CONTEXT})
"""The clinical context of a patient before anybody recorded one."""


def context_words(context: Mapping[str, Recorded]) -> Iterator[str]:
    """The context in a few words each, for the header of a patient; most of what nobody recorded is said too.

    >>> list(context_words({"age_band": "adult", "oxygen": "yes", "usual_spo2": 94}))
    ['adult', 'on oxygen', 'usual SpO₂ 94 %']
    """
    for key, value in context.items():
        member = CONTEXT_BY_KEY[key]
        if member.span is not None and value != member.unset:
            yield f"usual SpO₂ {value} %"
        elif value in member.short:
            yield member.short[value]
