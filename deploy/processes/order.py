"""Orders of the supervisor to a child process, and the child's answers."""

import json
import os
from dataclasses import dataclass
from typing import Any, Final

CONFIG_EXIT: Final = 3
"""Exit code by which a child says that its configuration is wrong: no use in starting it again."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the supervisor to a child."""

    name: str
    root: str
    listen_fd: int
    tls_fd: int
    mllp_fd: int
    mllps_fd: int
    life_fd: int
    ready_fd: int
    http: str
    mqtt: str
    mqtts: str
    mllp: str
    mllps: str
    config: str | None

    def tell_ready(self, record: dict[str, Any]) -> None:
        """One line of JSON on the ready pipe."""
        os.write(self.ready_fd, json.dumps(record).encode() + b"\n")
