"""What can be expected of a kind of device: which vital signs it sends, and whether they come early enough to page."""

from typing import Final, NamedTuple

from vitals.catalog import BY_KEY
from vitals.times import MINUTE_NS, SECOND_NS

_MINUTE_S: Final = MINUTE_NS // SECOND_NS


class DeviceFamily(NamedTuple):
    """A kind of device. ``vitals`` are catalogue keys; values of a ``polled`` source are asked of a vendor's service;
    ``delay_s`` is how old values usually are when they arrive, 0 where no delay is known."""

    vitals: frozenset[str]
    polled: bool = False
    delay_s: float = 0.0


class Unpaged(NamedTuple):
    """A vital sign (catalogue key) whose values usually arrive later than they may page, both in seconds."""

    vital: str
    delay_s: float
    paging_age_s: float

    @property
    def reason(self) -> str:
        """One sentence."""
        name = BY_KEY[self.vital].name
        spoken = name[0].lower() + name[1:] if name[1].islower() else name
        return (
            f"This source cannot page for {spoken}: its values are usually {self.delay_s / _MINUTE_S:.0f} min old when "
            f"they arrive, and a value that is more than {self.paging_age_s / _MINUTE_S:.0f} min old pages nobody."
        )


def unpaged(source: DeviceFamily) -> list[Unpaged]:
    """The vital signs of a source that cannot page, by key.

    Worked: values of a sensor behind a cloud that is an hour late page for 15 minutes: it cannot page.
    """
    ages_s = {key: BY_KEY[key].paged_ns(polled=source.polled) / SECOND_NS for key in sorted(source.vitals)}
    return [Unpaged(key, source.delay_s, age_s) for key, age_s in ages_s.items() if source.delay_s > age_s]
