"""Closed vocabularies: each word has one meaning in metrics, logs, API and documentation.

``docs/reference/glossary.md`` is generated from these tables; a test fails when it is stale.
"""

from enum import IntEnum, IntFlag, StrEnum
from typing import Self


class Described(StrEnum):
    """Base of a closed vocabulary: members are ``WORD = "word", "its meaning"``."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Reason(Described):
    """Why a message was quarantined, or a reading or connection refused."""

    UNKNOWN_ADAPTER = "unknown_adapter", "the topic names an adapter that is not installed"
    UNKNOWN_KIND = "unknown_kind", "the adapter has no such kind of payload"
    PAYLOAD_TOO_LARGE = "payload_too_large", "the payload is over the adapter's max_payload"
    EMPTY = "empty", "the payload has no bytes"
    TRUNCATED = "truncated", "the payload ends before its last field"
    TRAILING_BYTES = "trailing_bytes", "the payload has bytes after its last field"
    MALFORMED = "malformed", "the payload is not in the format at all"
    MISSING_FIELD = "missing_field", "a required field is absent"
    BAD_TYPE = "bad_type", "a field has the wrong type"
    BAD_VALUE = "bad_value", "a field has a value that the format does not allow"
    BAD_TIME = "bad_time", "a time cannot be read"
    UNKNOWN_VITAL = "unknown_vital", "the vital sign is not in the catalogue"
    UNKNOWN_UNIT = "unknown_unit", "the unit does not fit the vital sign"
    UNKNOWN_USER = "unknown_user", "the device names a user other than the patient it is assigned to"
    RESERVED_BITS = "reserved_bits", "reserved flag bits are set and the length does not fit"
    AMBIGUOUS_ENCODING = "ambiguous_encoding", "the encoding of the packet can be read in two ways"
    OWNER_AMBIGUOUS = "owner_ambiguous", "the source cannot tell which of its users was measured"
    BAD_CHECKSUM = "bad_checksum", "a checksum does not match"
    ADAPTER_ERROR = "adapter_error", "the adapter failed on this message; the bytes are kept for a replay"


class Severity(IntEnum):
    """Priority of an alert (clinical.md 5.1): S1 high, S2 medium, S3 low."""

    S1 = 1
    S2 = 2
    S3 = 3


class AlertState(Described):
    """Lifecycle of an alert (clinical.md 5.5)."""

    NORMAL = "normal", "no condition"
    PENDING = "pending", "the condition holds, the on-delay runs"
    ACTIVE_UNACK = "active_unack", "raised, not acknowledged"
    ACTIVE_ACK = "active_ack", "acknowledged, the condition still holds"
    RTN_UNACK = "rtn_unack", "the condition ended, the alert is not acknowledged (latched)"
    RESOLVED = "resolved", "over"
    SHELVED = "shelved", "muted by a person until a time; evaluation goes on"
    SUPPRESSED = "suppressed", "muted by the system"


class AlertStep(Described):
    """What an event of an alert says happened; one event is one audit record (clinical.md 5.5)."""

    RAISED = "raised", "the condition holds: a new alert"
    RECURRED = "recurred", "the condition of an alert that is still open holds again"
    REOPENED = "reopened", "the condition holds again within 10 minutes after the alert was over"
    WORSENED = "worsened", "confirmed by a second reading, or more urgent than before: pages again and breaks a shelf"
    ESCALATED = "escalated", "nobody acknowledged in time: the next person on the ladder is asked"
    STILL_ABNORMAL = "still_abnormal", "acknowledged some time ago, and values are still not normal: asks again"
    RECHECK_DUE = "recheck_due", "the repeat measurement after the acknowledgement is due: asks again"
    ACKNOWLEDGED = "acknowledged", "a person acknowledged the alert"
    RETURNED = "returned", "values are back to normal, but nobody has acknowledged the alert: it stays open (latched)"
    RESOLVED = "resolved", "the alert is over"
    NOTED = "noted", "a person added a note"
    SHELVED = "shelved", "a person muted the alert until a time"
    SHELF_ASKED = (
        "shelf_asked",
        "a person asks to mute the alert for longer than one person may; a second person must agree",
    )
    UNSHELVED = "unshelved", "the shelf has expired: the alert asks again"
    SUPPRESSED = "suppressed", "muted by the system, with a reason"
    RELEASED = "released", "no longer muted by the system: the alert asks again"
    HELD = "held", "the condition comes and goes: the alert stays open until the condition has been quiet for some time"
    STALE = "stale", "no newer readings: the alert stays as it is"
    STALE_OVER = "stale_over", "readings arrive again"
    RETRACTED = "retracted", "a reading that raised the alert was withdrawn"
    ADDED = "added", "another value or patient was added to the alert: nobody is asked again"
    ARCHIVED = "archived", "72 hours after the alert was over: it no longer changes"


TELLING: frozenset[AlertStep] = frozenset(
    {AlertStep.RAISED, AlertStep.RECURRED, AlertStep.REOPENED, AlertStep.WORSENED}
)
"""Steps that carry values, limit, quality and text of the alert; the alert shows those of the latest such step."""
INTERRUPTING: frozenset[AlertStep] = TELLING | frozenset({
    AlertStep.ESCALATED, AlertStep.STILL_ABNORMAL, AlertStep.RECHECK_DUE, AlertStep.UNSHELVED, AlertStep.RELEASED,
})  # fmt: skip
"""Steps that may page a person; whether one did is in its event."""


class Basis(IntEnum):
    """Where a reading's time comes from."""

    DEVICE = 0, "the device gave an instant"
    DEVICE_ASSUMED_ZONE = 1, "the device gave wall time; the zone is that of the assignment or the patient"
    HUB = 2, "the hub's clock"
    RECEIVED = 3, "the gateway's clock at receipt"
    DAY = 4, "the source gave a day only"
    UNKNOWN = 5, "wall time in an unknown zone, or no usable time: stored, never scored"

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> "Basis":
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Statistic(IntEnum):
    """What the value is over its interval."""

    SINGLE = 0
    MEAN = 1
    MINIMUM = 2
    MAXIMUM = 3
    SUM = 4
    COUNT = 5
    MEDIAN = 6
    STANDARD_DEVIATION = 7
    VARIANCE = 8
    QUANTILE = 9
    QUARTILE_DEVIATION = 10


class Flag(IntFlag):
    """Quality of a reading; bits are append-only. ``FLAG_MEANINGS`` documents each."""

    IMPLAUSIBLE = 1 << 0
    SUSPECT = 1 << 1
    BELOW_RANGE = 1 << 2
    ABOVE_RANGE = 1 << 3
    CLOCK_CORRECTED = 1 << 4
    CLOCK_SUSPECT = 1 << 5
    LATE = 1 << 6
    LOW_QUALITY = 1 << 7
    ESTIMATED = 1 << 8
    MANUAL = 1 << 9
    REPLAYED = 1 << 10
    RETRACTED = 1 << 11
    POSSIBLE_DUPLICATE = 1 << 12
    REVISION = 1 << 13
    CONTROL_SOLUTION = 1 << 14
    TEST_DATA = 1 << 15
    SENSOR_FAULT = 1 << 16
    CLOCK_WRONG = 1 << 17


FLAG_MEANINGS: dict[Flag, str] = {
    Flag.IMPLAUSIBLE: "physiologically impossible: stored, never scored",
    Flag.SUSPECT: "rare but possible: a single sample does not page unless it is critical",
    Flag.BELOW_RANGE: "below what the sensor can measure; satisfies every low limit",
    Flag.ABOVE_RANGE: "above what the sensor can measure; satisfies every high limit",
    Flag.CLOCK_CORRECTED: "the time was corrected by a known shift",
    Flag.CLOCK_SUSPECT: "the clock is wrong, by the device's own report or by its time",
    Flag.LATE: "arrived after the vital's paging age: history, never pages as current",
    Flag.LOW_QUALITY: "the device reports a poor signal",
    Flag.ESTIMATED: "an early or derived estimate",
    Flag.MANUAL: "typed by a person",
    Flag.REPLAYED: "decoded from quarantine after a fix",
    Flag.RETRACTED: "withdrawn by its source",
    Flag.POSSIBLE_DUPLICATE: "possibly a resend: it cannot be distinguished from a new reading",
    Flag.REVISION: "a reading that was stored before: it has a new value, another owner, another time, or is withdrawn",
    Flag.CONTROL_SOLUTION: "a check of the meter, not a value of a patient",
    Flag.TEST_DATA: "demonstration or test data, not a value of a patient",
    Flag.CLOCK_WRONG: "the device's clock is wrong: it counts as measured at its arrival; no score or baseline uses it",
    Flag.SENSOR_FAULT: "the device reports a fault of its sensor or strip",
}

NOT_SCORED: Flag = (
    Flag.IMPLAUSIBLE | Flag.LATE | Flag.REPLAYED | Flag.RETRACTED | Flag.CONTROL_SOLUTION
    | Flag.TEST_DATA | Flag.SENSOR_FAULT | Flag.CLOCK_SUSPECT
)  # fmt: skip
"""A reading with any of these flags is history: no rule, score or baseline reads it as current."""


class Mode(StrEnum):
    """How a (patient, vital) is measured; staleness, persistence and clearing depend on it."""

    SPOT = "spot"
    CONTINUOUS = "continuous"


class EventKind(Described):
    """Events beside readings: things that happened to a device or a value that is absent with a reason."""

    ONLINE = "online", "the device connected"
    OFFLINE = "offline", "the device's connection ended"
    BATTERY = "battery", "battery level in percent, or low"
    SENSOR_STATUS = "sensor_status", "a status word of the device, in `detail`"
    VALUE_ABSENT = "value_absent", "the device reported that it has no value, reason in `detail`"
    CONTEXT = "context", "context of a reading, sent separately from the reading"
    CLOCK_FAULT = "clock_fault", "the device's clock is wrong"
    FLAPPING = "flapping", "the device reconnects again and again, or two clients use its id"
    FAULT = "fault", "a fault of the device began, named in `detail`"
    FAULT_OVER = "fault_over", "a fault of the device is over, named in `detail`"
    BATTERY_LOW = "battery_low", "the battery fell below the device's threshold, or the device said that it is low"
    BATTERY_OK = "battery_ok", "the battery is no longer low"
    UNKNOWN_CODE = "unknown_code", "a value came under a code that is not known: see the worklist of unknown codes"
    CODE_CONFLICT = (
        "code_conflict",
        "number and name of a code are those of different vital signs, or both cannot be checked: no reading is made",
    )
    IMPLAUSIBLE = (
        "implausible",
        "a value that is no physiology: stored, never scored; see the worklist of unknown codes and doubtful values",
    )
    UNIT_SUSPECT = "unit_suspect", "a value that is possible in another unit only than the one that came with it"
    UNREADABLE = "unreadable", "a value of a vital sign that cannot be read: no reading is made of it"
    SERVER_CLOCK = "server_clock", "the clock of the gateway's machine was moved, or its new time is followed"


class ControlKind(Described):
    """What a person or the system told the engine, as entries of the log."""

    LIMITS = "limits", "the limits of a patient were replaced"
    ACKNOWLEDGE = "acknowledge", "a person acknowledged an alert"
    SHELVE = "shelve", "an alert was muted until a time"
    NOTE = "note", "a person added a note to an alert"
    RESOLVE = "resolve", "a person closed an alert"
    REASSIGN = "reassign", "readings followed a changed assignment of their device"
    ASSIGN = "assign", "a person assigned waiting readings to a patient"
    DISCARD = "discard", "a person discarded waiting readings"
    PROGRAMME = "programme", "a programme adopted a version of its protocols"
    ENROLMENT = "enrolment", "the programmes and overrides of a patient were replaced"
    CONTEXT = "context", "the clinical context of a patient was replaced"
    STATUS = "status", "the monitoring status of a patient changed, from a given time on"
    UNCLAIMED = "unclaimed", "a live extreme value has no patient yet; written by ingest only"
    ALARM = "alarm", "a device raises an alarm itself, or says that it is over; written by ingest only"
    OTHER_PATIENT = "other_patient", "a device names another patient than its wearer; written by ingest only"
    TECHNICAL = "technical", "a technical fault of the system began or ended; written by the system only"
