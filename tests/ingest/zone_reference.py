"""Wall time to instants by the standard library, one row at a time: what the vectorised clock stage must equal."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND_NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(text: str) -> int:
    """Wall time read as if UTC, or an instant with Z, as int64 nanoseconds."""
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_NS


def _minutes(moment: datetime) -> int:
    offset = moment.utcoffset()
    assert offset is not None
    return round(offset.total_seconds() / 60)


def row_by_row(wall_ns: int, zone: ZoneInfo) -> tuple[int, int, int, int]:
    """Early and late instant of a wall time and the zone's offsets at them, by trying both folds (PEP 495)."""
    seconds, rest = divmod(wall_ns, SECOND_NS)
    naive = (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
    early, late = sorted(naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early.astimezone(zone).replace(tzinfo=None) != naive and late.astimezone(zone).replace(tzinfo=None) != naive:
        # A gap: the change lies between the two, where the offset turns.
        before = early.astimezone(zone).utcoffset()
        while late - early > timedelta(seconds=1):
            middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
            early, late = (middle, late) if middle.astimezone(zone).utcoffset() == before else (early, middle)
        early, rest = late, 0
    first, last = (round((moment - EPOCH).total_seconds()) * SECOND_NS + rest for moment in (early, late))
    return first, last, _minutes(early.astimezone(zone)), _minutes(late.astimezone(zone))
