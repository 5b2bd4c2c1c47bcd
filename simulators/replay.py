"""Replay a recording as its device would have sent it: as history, or moved so that a chosen moment is now.

``plan`` is pure: bytes and times in, payloads and due times out. ``run`` publishes a plan. Metadata rows of a
recording are part of it: a real uploader sends the whole file, so they go out with the first chunk, untouched.
"""

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simulators.publisher import Outgoing, Publisher
from simulators.wire import BOM, CLARITY_TIME, csv_line
from vitals.errors import InvalidRequest
from vitals.ports import Clock
from vitals.times import SECOND_NS

CHUNK_BYTES = 64 * 1024
"""The largest payload; also the default ``max_payload`` of an adapter."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: ``history`` at once and in order, ``due`` as (UTC ns, payload) when it is time.

    ``rows`` counts the recording's rows after the header, all of which are sent once; ``spaced`` how many distinct
    times had to move by a second or more, because another row already had that second (see :func:`plan`).
    """

    history: list[bytes]
    due: list[tuple[int, bytes]]
    rows: int
    spaced: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One CSV record, its wall time where it has one, and the field that holds it."""

    text: str
    wall: datetime | None
    column: int

    def at(self, wall: datetime) -> str:
        fields = next(csv.reader([self.text]))
        fields[self.column] = wall.isoformat(timespec="seconds")
        return csv_line(fields)


def plan(
    recording: bytes,
    align: datetime | None,
    speed: float,
    now_ns: int,
    zone: str | None,
    *,
    adapter: str = "clarity",
) -> Plan:
    """Plan the replay of ``recording`` (a whole file).

    Without ``align`` everything is history with its own times, rows as written (line ends become LF), in chunks of a
    header line and rows, at most 64 KiB each. With ``align``, a wall time in the file's own clock, every row moves so
    that ``align`` is ``now_ns``; rows before it are history, later rows are one message each, due after
    (time - align) / ``speed``, and carry the wall time in ``zone`` (IANA name, None = UTC) of the moment they are due,
    rounded down: a row is never in the future when it is sent.

    A reading's identity is its written time, and this format writes whole seconds without a zone. So when high
    ``speed``, or the hour that a zone repeats in autumn, puts two times of the recording into one written second, the
    row is *spaced* to the next free second (history: the one before) and its due time moves along; nothing is lost,
    order is kept, and the effective speed is capped at one row a second. Refusing would make replays fail two weeks a
    year. Rows that share a time in the recording still share one: they are its own duplicates.

    Raises:
        InvalidRequest: unknown adapter or zone, a speed that is not positive, a file that is no such recording.
    """
    if adapter != "clarity":
        raise InvalidRequest("adapter", f"no recordings of {adapter!r} can be replayed; clarity can")
    if not speed > 0:
        raise InvalidRequest("speed", "must be greater than 0")
    header, rows = _read(recording)
    if align is None:
        return Plan(_chunks(header, [row.text for row in rows]), [], len(rows))
    if align.tzinfo is not None:
        raise InvalidRequest("align", "is a wall time of the file's own clock: give it without an offset")
    return _aligned(header, rows, align, speed, now_ns, _zone(zone))


def _aligned(header: str, rows: Sequence[_Row], align: datetime, speed: float, now_ns: int, zone: ZoneInfo) -> Plan:
    offsets = {row.wall: row.wall - align for row in rows if row.wall is not None}
    zero = timedelta(0)
    past = sorted((offset for offset in offsets.values() if offset < zero), reverse=True)
    later = sorted(offset for offset in offsets.values() if offset >= zero)
    wall_clock = _WallClock(zone)
    # History first, newest first: what is pushed is pushed away from now, never into the future.
    written = {offset: wall_clock.take(now_ns + _ns(offset), step=-1) for offset in past}
    written |= {offset: wall_clock.take(now_ns + int(_ns(offset) / speed), step=1) for offset in later}
    history, due = [], []
    for row in rows:
        if row.wall is None:
            history.append(row.text)
            continue
        offset = offsets[row.wall]
        due_ns, wall = written[offset]
        if offset < zero:
            history.append(row.at(wall))
        else:
            due.append((due_ns, _encode(header, [row.at(wall)])))
    due.sort(key=lambda item: item[0])
    return Plan(_chunks(header, history), due, len(rows), wall_clock.spaced)


def _ns(offset: timedelta) -> int:
    return offset // timedelta(microseconds=1) * 1000


class _WallClock:
    """Hands out written seconds, each once."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._taken: set[datetime] = set()
        self._last_s: int | None = None
        self._step = 0
        self.spaced = 0

    def take(self, instant_ns: int, *, step: int) -> tuple[int, datetime]:
        """(instant, wall time) for ``instant_ns``, moved by ``step`` seconds while its second is taken.

        Calls come in the order of ``step``: ever earlier with -1, then ever later with 1.
        """
        second = wanted = instant_ns // SECOND_NS
        if self._last_s is not None and step == self._step:
            second = min(second, self._last_s - 1) if step < 0 else max(second, self._last_s + 1)
        while (wall := self._wall(second)) in self._taken:
            second += step
        self._taken.add(wall)
        self._last_s, self._step = second, step
        self.spaced += second != wanted
        return (instant_ns if second == wanted else second * SECOND_NS), wall

    def _wall(self, second: int) -> datetime:
        return (_EPOCH + timedelta(seconds=second)).astimezone(self._zone).replace(tzinfo=None, fold=0)


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidRequest("zone", f"no time zone {name!r}") from error


def _read(recording: bytes) -> tuple[str, list[_Row]]:
    """The header line (with its byte order mark, if any) and the rows; blank lines are no rows."""
    try:
        text = recording.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("file", "is not UTF-8 text") from error
    records = _records(text)
    header = next(records, "")
    names = next(csv.reader([header.removeprefix(BOM)]), [])
    if CLARITY_TIME not in names:
        raise InvalidRequest("file", f"is no Clarity export: its first line has no column {CLARITY_TIME!r}")
    column = names.index(CLARITY_TIME)
    return header, [_row(number, record, column) for number, record in enumerate(records, start=1)]


def _records(text: str) -> Iterator[str]:
    """CSV records as written, without line ends; a quoted field may hold one."""
    pending = ""
    for line in io.StringIO(text, newline=""):
        pending += line
        if pending.count('"') % 2 == 0:
            if pending.strip():
                yield pending.rstrip("\r\n")
            pending = ""
    if pending:
        raise InvalidRequest("file", "ends inside a quoted field")


def _row(number: int, record: str, column: int) -> _Row:
    fields = next(csv.reader([record]))
    text = fields[column].strip() if column < len(fields) else ""
    if not text:
        return _Row(record, None, column)
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("file", f"row {number}: its time cannot be read") from error
    if wall.tzinfo is not None:
        raise InvalidRequest("file", f"row {number}: its time has an offset, which this format does not")
    return _Row(record, wall, column)


def _encode(header: str, rows: Sequence[str]) -> bytes:
    return ("\n".join([header.removeprefix(BOM), *rows]) + "\n").encode()


def _chunks(header: str, rows: Sequence[str]) -> list[bytes]:
    """``rows`` under repeated headers, each payload at most ``CHUNK_BYTES``; the first keeps the byte order mark."""
    bare = header.removeprefix(BOM)
    room = CHUNK_BYTES - len(header.encode()) - 1
    groups: list[list[str]] = []
    left = 0
    for number, row in enumerate(rows, start=1):
        size = len(row.encode()) + 1
        if size > room:
            raise InvalidRequest("file", f"row {number} does not fit into a payload")
        if size > left:
            groups.append([])
            left = room
        groups[-1].append(row)
        left -= size
    return [
        ("\n".join([header if number == 0 else bare, *group]) + "\n").encode() for number, group in enumerate(groups)
    ]


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts so far, of the plan: ``messages`` sent and ``acked``, out of ``total``."""

    messages: int
    acked: int
    total: int


async def run(
    plan: Plan,
    publisher: Publisher,
    clock: Clock,
    *,
    adapter: str = "clarity",
    kind: str = "",
    progress: Callable[[Progress], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, int]:
    """Publish ``plan``: history at once, the rest when due by ``clock``; ends when all is acknowledged or given up.

    Returns ``{"rows", "messages", "acked"}``: rows of the recording, messages handed to the publisher, and those
    acknowledged; fewer than ``messages`` means refusals or ``publisher.failure``.
    """
    total = len(plan.history) + len(plan.due)
    state = Progress(0, 0, total)

    async def send(payload: bytes) -> None:
        nonlocal state
        state = replace(state, messages=state.messages + 1)
        acked = await publisher.publish(Outgoing(adapter, payload, kind))
        state = replace(state, acked=state.acked + acked)
        if progress is not None:
            progress(state)

    async with asyncio.TaskGroup() as group:
        for payload in plan.history:
            group.create_task(send(payload))
        for due_ns, payload in plan.due:
            while (left_s := (due_ns - clock.now_ns()) / SECOND_NS) > 0 and publisher.failure is None:
                await sleep(min(left_s, _LONGEST_WAIT_S))
            if publisher.failure is not None:
                break
            group.create_task(send(payload))
    return {"rows": plan.rows, "messages": state.messages, "acked": state.acked}
