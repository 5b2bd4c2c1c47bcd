"""Messages of history: their sender marks them by a kind that ends in ``:history``, as an import does.

Their readings are stored like any others, but nothing of them is current: no rule pages for them, and their times say
nothing of a device's clock now. In quarantine a message keeps the mark, so that its replay is history too.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import structs

from vitals.model import Message

MARK: Final = ":history"


def marked(messages: Sequence[Message]) -> npt.NDArray[np.bool_]:
    """Which of the messages are history by the word of their sender."""
    return np.array([message.kind.endswith(MARK) for message in messages], np.bool_)


def plain(message: Message) -> Message:
    """The message as its adapter knows it, without the mark."""
    kind = message.kind.removesuffix(MARK)
    return message if kind == message.kind else structs.replace(message, kind=kind)
