"""A real broker that a test may kill and start again."""

import getpass
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually, free_port


class Broker:
    """mosquitto on a free loopback port; ``kill`` is ``kill -9``, ``start`` brings it back on the same port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(*settings)

    def configure(self, *settings: str) -> None:
        """Replace the settings; they hold from the next ``start`` on."""
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"user {getpass.getuser()}",  # as root it would otherwise become a user that cannot read the folder
            "log_dest none",
            *(settings or ("allow_anonymous true",)),
        ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        program = shutil.which("mosquitto")
        assert program is not None, "mosquitto is not installed"
        self._process = subprocess.Popen([program, "-c", str(self.folder / "mosquitto.conf")])
        eventually(self._listens, what="mosquitto")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker that lets everybody in."""
    server = Broker(tmp_path)
    server.start()
    yield server
    server.kill()
