"""What callers may send: strict types, bounded sizes, no unknown members or parameters."""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dashboard_api.auth.access import MAX_TTL_S
from vitals.glossary import AlertState, Reason, Severity

MAX_PAGE: Final = 1000
MAX_RAW: Final = 100_000
"""Points in one answer of the readings route."""
DEFAULT_POINTS: Final = 2_000
MAX_REPORT_DAYS: Final = 92
DEFAULT_REPORT_DAYS: Final = 14
MAX_BACKTEST_PATIENTS: Final = 5_000
MAX_EVENTS: Final = 100_000
"""Labelled onsets of one backtest."""
_YEAR_MIN: Final = 366 * 24 * 60
_LONGEST_SHIFT_S: Final = 100 * 366 * 86_400
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _checked_day(text: str) -> str:
    if not _DAY.fullmatch(text):
        raise ValueError("not a date such as 1950-12-31")
    date.fromisoformat(text)
    return text


def _checked_name(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters")
    return text


def _without_nul(text: str) -> str:
    # Not every database keeps it.
    if "\0" in text:
        raise ValueError("has a NUL character")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable), AfterValidator(_checked_name)]
Day = Annotated[str, Field(max_length=10), AfterValidator(_checked_day)]
Token = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Time = Annotated[str, Field(min_length=1, max_length=40)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_without_nul)]
Zone = Annotated[str, Field(min_length=1, max_length=64)]
Interval = Annotated[int, Field(ge=1, le=366 * 86_400)]
Percent = Annotated[float, Field(gt=0, le=100)]
Reasoned = Annotated[Text, Field(min_length=1), AfterValidator(_checked_name)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Known = Literal["unknown", "no", "yes"]
Setting = Annotated[str, Field(max_length=256), AfterValidator(_printable)]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class NewPatient(Body):
    name: Name
    birth_date: Day | None = None
    mrn: Token | None = None
    zone: Zone | None = None
    condition: Token | None = None


class PatientChange(Body):
    name: Name | None = None
    birth_date: Day | None = None
    mrn: Token | None = None
    zone: Zone | None = None
    condition: Token | None = None


class StatusChange(Body):
    """``check`` is when to ask whether monitoring is to go on."""

    status: Token
    from_: Time | None = Field(default=None, alias="from")
    check: Time | None = None


class Adoption(Body):
    """A new version of a programme. ``protocols`` are names of shipped protocols or whole documents. ``version`` is the
    number of the new version (default: the next one); a concurrent change is rejected. ``review`` is the time of the
    next review."""

    protocols: Annotated[list[Token | dict[str, Any]], Field(min_length=1, max_length=16)]
    title: Text = ""
    reason: Reasoned
    version: Version | None = None
    valid_from: Time | None = None
    review: Time | None = None


class ProtocolPair(Body):
    """Two protocols, each the name of a shipped one or a whole document."""

    before: Token | dict[str, Any]
    after: Token | dict[str, Any]


class Override(Body):
    """``changes`` to a rule (``copd:P1-red``), or ``off``; until a time, or for good."""

    rule: Token
    changes: dict[str, Any] | None = None
    off: bool = False
    until: Time | None = None
    reason: Reasoned


class Enrolment(Body):
    """The whole set, which replaces the previous one; ``version`` as in an adoption."""

    programmes: Annotated[list[Token], Field(max_length=16)]
    overrides: Annotated[list[Override], Field(max_length=64)] = []
    reason: Reasoned
    version: Version | None = None


class ClinicalContext(Body):
    """Members of ``vitals.context``. ``spo2_scale`` 2 only where a clinician has set a target of 88 to 92 %; 0: never
    set. ``usual_spo2`` in %; 0: none recorded."""

    age_band: Literal["unknown", "under_16", "adult"]
    pregnancy: Known
    oxygen: Known
    spo2_scale: Literal[0, 1, 2]
    known_af: Known
    usual_confusion: bool = False
    postpartum: Known = "unknown"
    mechanical_support: Known = "unknown"
    trained_or_paced: Known = "unknown"
    usual_spo2: Annotated[int, Field(ge=0, le=100)] = 0
    treatment_limits: Known = "unknown"
    reason: Reasoned
    version: Version | None = None


class NewDevice(Body):
    adapter: Token
    id: str | None = None
    hub: bool = False
    parent: Token | None = None
    zone: Zone | None = None
    settings: Annotated[dict[Token, Setting], Field(max_length=64)] | None = None
    expected_interval_s: Interval | None = None
    battery_low_percent: Percent | None = None


class DeviceChange(Body):
    """What is left out stays; null goes back to the default. Of ``settings`` the named ones change."""

    settings: Annotated[dict[Token, Setting | None], Field(max_length=64)] | None = None
    expected_interval_s: Interval | None = None
    battery_low_percent: Percent | None = None


class NewAssignment(Body):
    """``from`` left out: always, for a device that nobody wore before, else now. ``from`` null: always."""

    patient: Token
    from_: Time | None = Field(default=None, alias="from")
    to: Time | None = None
    zone: Zone | None = None
    replace: bool = False


class Rotation(Body):
    """The old secret works for ``overlap_s`` more seconds."""

    overlap_s: Annotated[int, Field(ge=0, le=86_400)] = 0


class NewGrant(Body):
    """A second secret for ``ttl_s`` seconds."""

    ttl_s: Annotated[int, Field(ge=1, le=86_400)]


class Remark(Body):
    note: Text = ""


class Note(Body):
    note: Annotated[Text, Field(min_length=1)]


class Shelf(Body):
    """Either ``until`` or ``minutes``."""

    until: Time | None = None
    minutes: Annotated[int, Field(gt=0, le=_YEAR_MIN)] | None = None
    reason: Annotated[Text, Field(min_length=1)]


class LabelledEvent(Body):
    """When something began with a patient, as a person or a study labelled it."""

    patient: Token
    time: Time


class NewBacktest(Body):
    """``protocol`` and ``against``: a protocol document, or a list of limits. No ``patients`` means all. ``events``:
    labelled onsets, for sensitivity."""

    protocol: dict[str, Any] | list[Any]
    against: dict[str, Any] | list[Any] | None = None
    patients: Annotated[list[Token], Field(max_length=MAX_BACKTEST_PATIENTS)] = []
    from_: Time | None = Field(default=None, alias="from")
    to: Time | None = None
    as_measured: bool = False
    events: Annotated[list[LabelledEvent], Field(max_length=MAX_EVENTS)] = []


class Owner(Body):
    """``shift_s`` is added to the time as sent, wall time read as UTC, to get UTC."""

    patient: Token
    shift_s: Annotated[float, Field(ge=-_LONGEST_SHIFT_S, le=_LONGEST_SHIFT_S)] | None = None


class Discard(Body):
    reason: Annotated[Text, Field(min_length=1)]


class Replay(Body):
    """One of the three narrows the replay; none means every open item."""

    id: Token | None = None
    reason: Token | None = None
    adapter: Token | None = None


class NewToken(Body):
    role: Token
    ttl_s: Annotated[int, Field(gt=0, le=MAX_TTL_S)] | None = None
    scope: Text = ""


class TokenEnd(Body):
    token: Annotated[str, Field(min_length=1, max_length=200)]


class Query(BaseModel):
    """Parameters of a route; an unknown one is refused, because a misspelt filter would return too much."""

    model_config = ConfigDict(extra="forbid")


class Paging(Query):
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    cursor: Annotated[str, Field(max_length=200)] = ""


class OfDevice(Paging):
    device: Token | None = None


class AlertQuery(Paging):
    """``state`` may be given several times; the empty ``patient`` is the site itself."""

    state: list[AlertState] = []
    severity: Literal["S1", "S2", "S3"] | None = None
    patient: Token | Literal[""] | None = None

    def severity_number(self) -> Severity | None:
        """``S1`` as a :class:`Severity`."""
        return None if self.severity is None else Severity[self.severity]


class WardQuery(Paging):
    """``patient`` may be given several times; none means every patient."""

    patient: Annotated[list[Token], Field(max_length=MAX_PAGE)] = []


class TrendQuery(WardQuery):
    hours: Annotated[int, Field(ge=1, le=24)] = 6


class TimelineQuery(Paging):
    patient: Token | None = None
    match: Literal["kept", "new", "gone"] | None = None
    cursor: Annotated[str, Field(pattern="^[0-9]{0,9}$")] = ""


class SeriesQuery(Query):
    vital: Token
    start: Time | None = None
    end: Time | None = None
    resolution: Literal["auto", "raw", "1m", "1h", "1d"] = "auto"
    max_points: Annotated[int, Field(ge=1, le=MAX_RAW)] | None = None


class ReportQuery(Query):
    """``days`` before ``end``, where no ``start`` is given."""

    start: Time | None = None
    end: Time | None = None
    days: Annotated[int, Field(ge=1, le=MAX_REPORT_DAYS)] | None = None


class LimitsQuery(Query):
    reason: Text = ""


class StreamQuery(Query):
    """``patient`` may be given several times: readings and alerts of these patients only."""

    patient: Annotated[list[Token], Field(max_length=1000)] = []


REASONS: Final = frozenset(reason.value for reason in Reason)
