"""The page during the first start on a machine, while the kernels are compiled."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from deploy import kernels
from tests.deploy.conftest import Running
from tests.page.conftest import Ward, open_page, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def data() -> Iterator[Path]:
    """A short path: the control socket's has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vg-") as root:
        yield Path(root) / "d"


def _fill(cache: Path) -> None:
    """Give a cache what the tests' own holds, each file whole: the compilation that runs finds the rest done."""
    own = Path(os.environ[kernels.NUMBA_DIR])
    kernels.Compiler(own).run()
    for kind in ("nbc", "nbi"):  # an index names files of code, so these come first
        for file in own.rglob(f"*.{kind}"):
            target = cache / kernels.key() / file.relative_to(own)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target.with_suffix(".part"))
            target.with_suffix(".part").replace(target)


def test_the_strip_says_that_alerts_warm_up_until_they_are_warm(browser: Browser, data: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != kernels.NUMBA_DIR}
    running = Running(data, environment=environment | {kernels.CACHE_DIR: str(tmp_path / "cache")})
    watched = open_page(browser)
    try:
        page = sign_in(Ward(running), watched)
        expect(page.locator("#warming")).to_have_text("alerts: warming up")
        expect(page.get_by_role("status")).to_have_text("Live")
        assert running.readiness() == ["warming"], "compiling goes on"
        _fill(tmp_path / "cache")
        running.until_ready(within_s=300)
        expect(page.locator("#warming")).to_have_count(0)
    finally:
        watched.page.context.close()
        assert running.stop() == 0
    assert watched.complaints == []
