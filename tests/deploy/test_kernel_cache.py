"""Where compiled kernels are kept: which directory is trusted, what is repaired and removed, and who shares it."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy import kernels

ROOT = Path(__file__).parents[2]
KERNEL = """
import sys, numba
sys.path.insert(0, {folder!r})
from one_kernel import add
assert add(2, 3) == 5
sys.stdout.write(f"{{sum(add.stats.cache_hits.values())}} {{sum(add.stats.cache_misses.values())}}")
"""
"""Runs one small kernel in a process of its own; prints how often the cache had it and had it not."""


def chosen(environment: Mapping[str, str], data: Path | None = None) -> Path:
    """The directory that holds the folder of the key."""
    folder = kernels.choose(environment, data)
    assert folder.stat().st_mode & 0o777 == 0o700
    return folder.parent


def private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True)
    return folder


def add_twice(tmp_path: Path, cache: Path) -> str:
    """Cache hits and misses of the small kernel."""
    module = tmp_path / "one_kernel.py"
    if not module.exists():
        module.write_text(
            "from numba import njit\n@njit('int64(int64, int64)', cache=True)\ndef add(a, b):\n    return a + b\n"
        )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL.format(folder=str(tmp_path))], env=environment | {kernels.NUMBA_DIR: str(cache)},
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestChoice:
    def test_the_first_candidate_is_taken(self, tmp_path: Path) -> None:
        environment = {kernels.CACHE_DIR: str(tmp_path / "a"), "XDG_CACHE_HOME": str(tmp_path / "b"), "HOME": "/h"}
        assert chosen(environment, tmp_path / "data") == tmp_path / "a"
        del environment[kernels.CACHE_DIR]
        assert chosen(environment, tmp_path / "data") == tmp_path / "b" / "vitalgate"
        assert chosen({"HOME": str(tmp_path)}, tmp_path / "data") == tmp_path / ".cache" / "vitalgate"

    def test_without_home_it_is_the_data_directory(self, tmp_path: Path) -> None:
        assert chosen({}, tmp_path) == tmp_path / "cache"

    def test_without_any_it_is_a_private_temporary_folder(self) -> None:
        folder = kernels.choose({}, None)
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("home", ["/proc", "/dev/null", "relative"])
    def test_what_cannot_be_written_is_passed_over(
        self, tmp_path: Path, home: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert chosen({"HOME": home}, tmp_path) == tmp_path / "cache"
        assert ("kernel cache not used" in caplog.text) == home.startswith("/")

    @pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o500])
    def test_a_directory_that_is_open_to_others_is_not_used(
        self, tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        private(tmp_path / "a").chmod(mode)
        assert chosen({kernels.CACHE_DIR: str(tmp_path / "a")}, tmp_path) == tmp_path / "cache"
        assert f"mode {mode:04o}, must be 0700" in caplog.text

    def test_nor_is_the_folder_of_the_key_in_it(self, tmp_path: Path) -> None:
        (private(tmp_path / "a") / kernels.key()).mkdir(mode=0o755)
        (tmp_path / "a" / kernels.key()).chmod(0o755)
        assert chosen({kernels.CACHE_DIR: str(tmp_path / "a")}, tmp_path) == tmp_path / "cache"

    def test_nor_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(private(tmp_path / "b"))
        assert chosen({kernels.CACHE_DIR: str(tmp_path / "a")}, tmp_path) == tmp_path / "cache"

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
    def test_nor_one_of_another_user(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        os.chown(private(tmp_path / "a"), 65534, 65534)
        assert chosen({kernels.CACHE_DIR: str(tmp_path / "a")}, tmp_path) == tmp_path / "cache"
        assert "owned by another user" in caplog.text

    def test_who_sets_the_directory_of_numba_has_chosen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(kernels.NUMBA_DIR, str(tmp_path / "own"))
        assert kernels.use(tmp_path) == tmp_path / "own"


class TestOldKeys:
    def test_only_what_nobody_used_for_a_month_is_removed(self, tmp_path: Path) -> None:
        root = private(tmp_path / "a")
        for name, days in (("kernels-old", 31), ("kernels-other-installation", 29), ("something-else", 99)):
            used = private(root / name) / "used"
            used.touch()
            at = time.time() - 86_400 * days
            os.utime(used, (at, at))
            os.utime(root / name, (at, at))
        chosen({kernels.CACHE_DIR: str(root)})
        left = {folder.name for folder in root.iterdir()}
        assert left == {"kernels-other-installation", "something-else", kernels.key()}


class TestDamage:
    @pytest.mark.parametrize("kept", [0, 1, 20, -1])
    @pytest.mark.parametrize("kind", ["nbi", "nbc"])
    def test_a_truncated_file_is_compiled_again(self, tmp_path: Path, kind: str, kept: int) -> None:
        cache = private(tmp_path / "cache")
        assert add_twice(tmp_path, cache) == "0 1"
        assert kernels.repair(cache) == []
        assert add_twice(tmp_path, cache) == "1 0"
        (file,) = cache.rglob(f"*.{kind}")
        file.write_bytes(file.read_bytes()[:kept])
        (cache / "compiled").touch()
        assert kernels.repair(cache) == [file]
        assert not kernels.Compiler(cache).done
        assert add_twice(tmp_path, cache) == "0 1"

    def test_zeros_of_a_power_cut_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "a.nbi").write_bytes(bytes(512))
        assert kernels.repair(tmp_path) == [tmp_path / "a.nbi"]

    @pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
    def test_an_unreadable_file_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "a.nbi").touch(mode=0)
        assert kernels.repair(tmp_path) == [tmp_path / "a.nbi"]


class TestCompiler:
    def test_two_first_starts_at_once_share_what_they_compile(self, tmp_path: Path) -> None:
        cache = private(tmp_path / "cache")
        add_twice(tmp_path, private(tmp_path / "elsewhere"))
        code = KERNEL.format(folder=str(tmp_path))
        environment = os.environ | {kernels.NUMBA_DIR: str(cache)}
        starts = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [start.wait(120) for start in starts] == [0, 0]
        assert kernels.repair(cache) == []
        assert add_twice(tmp_path, cache) == "1 0"

    def test_what_is_compiled_is_not_compiled_again(self, tmp_path: Path) -> None:
        (tmp_path / "compiled").touch()
        compiler = kernels.Compiler(tmp_path)
        compiler.run()
        assert [file.name for file in tmp_path.iterdir()] == ["compiled"]

    def test_stopped_before_it_began_it_starts_nothing(self, tmp_path: Path) -> None:
        compiler = kernels.Compiler(tmp_path)
        compiler.stop()
        compiler.run()
        assert not compiler.done

    def test_importing_the_engine_compiles_nothing(self, tmp_path: Path) -> None:
        code = (
            "from numba.core import event\n"
            "with event.install_recorder('numba:compile') as told:\n"
            "    import alerts.engine, alerts.service, alerts.detect.scorer\n"
            "assert not told.buffer"
        )
        environment = os.environ | {kernels.NUMBA_DIR: str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
