"""An end for loops that are expected to end by themselves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_after(seconds: float) -> Iterator[threading.Event]:
    """A stop event that is set in any case after so long, so that a loop that goes on fails its test."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()
        timer.join()
