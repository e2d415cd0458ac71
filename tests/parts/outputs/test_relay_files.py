"""The relay files, in real directories: on a full disk, a read-only one, with hostile names in the way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salsa_agent.core.model import Best, Source
from salsa_agent.outputs import relay_files as outputs
from salsa_agent.outputs.relay_files import FILES, RelayFile

NOC = Best("noc.example.net", 25, Source.DNS)
V6 = Best("2001:db8::1", 587, Source.STATIC)
NONE = Best()

Disk = Callable[[str], Path]


def shell(directory: Path) -> list[str]:
    """What a shell that sources `relay.env` has, with everything that it might trip over switched on."""
    script = 'set -eu; . ./relay.env; printf "%s\\n" "$SALSA_HOST" "$SALSA_PORT" "$SALSA_SOURCE"; set | grep -c ^SALSA_'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.splitlines()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "salsa-agent")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a small file system of its own (tmpfs) with these options."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        where = tmp_path / f"disk{len(mounted)}"
        where.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True, timeout=30)
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", "-l", where], check=True, timeout=30)


async def test_the_three_files(tmp_path: Path) -> None:
    RelayFile(str(tmp_path)).write(NOC)
    assert (tmp_path / "relay").read_text() == "noc.example.net:25\n"
    assert shell(tmp_path) == ["noc.example.net", "25", "dns", "3"]
    assert json.loads((tmp_path / "relay.json").read_text()) == {"host": "noc.example.net", "port": 25, "source": "dns"}
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


async def test_an_ipv6_literal_has_brackets_in_relay_only(tmp_path: Path) -> None:
    RelayFile(str(tmp_path)).write(V6)
    assert (tmp_path / "relay").read_text() == "[2001:db8::1]:587\n"
    assert shell(tmp_path) == ["2001:db8::1", "587", "static", "3"]
    assert json.loads((tmp_path / "relay.json").read_text())["host"] == "2001:db8::1"


async def test_no_relay_is_an_empty_file(tmp_path: Path) -> None:
    file = RelayFile(str(tmp_path))
    file.write(NOC)
    file.write(NONE)
    assert (tmp_path / "relay").read_bytes() == b""
    assert shell(tmp_path) == ["", "0", "none", "3"]
    assert json.loads((tmp_path / "relay.json").read_text()) == {"host": "", "port": 0, "source": "none"}


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
async def test_the_mode_is_0644_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        RelayFile(str(tmp_path)).write(NOC)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in FILES] == [0o644] * 3


async def test_files_are_replaced_by_rename(tmp_path: Path) -> None:
    file = RelayFile(str(tmp_path))
    file.write(NOC)
    with (tmp_path / "relay").open() as reader:
        file.write(V6)
        assert reader.read() == "noc.example.net:25\n"  # who has it open reads the old one, whole
    assert (tmp_path / "relay").read_text() == "[2001:db8::1]:587\n"


async def test_an_agent_that_stopped_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / ".relay.new").touch()  # of a run that was killed
    file = RelayFile(str(tmp_path))
    file.write(NOC)
    file.clear()
    assert os.listdir(tmp_path) == ["other"]


async def test_what_an_earlier_run_left_is_cleared(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("old.example.net:25\n")
    RelayFile(str(tmp_path)).clear()
    assert os.listdir(tmp_path) == []


async def test_a_move_clears_the_old_directory(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    file = RelayFile(str(old))
    file.move(str(new))
    assert os.listdir(new) == []  # nothing is known yet
    file.write(NOC)
    file.move(str(old))
    assert os.listdir(new) == []
    assert (old / "relay").read_text() == "noc.example.net:25\n"
    file.move("")
    assert os.listdir(old) == []
    file.move(str(new))
    assert (new / "relay").read_text() == "noc.example.net:25\n"


async def test_a_move_to_the_same_directory_writes_anew(tmp_path: Path) -> None:
    file = RelayFile(str(tmp_path))
    file.write(NOC)
    (tmp_path / "relay").unlink()
    file.move(str(tmp_path))
    assert (tmp_path / "relay").read_text() == "noc.example.net:25\n"


async def test_no_directory_means_no_files(caplog: pytest.LogCaptureFixture) -> None:
    file = RelayFile("")
    file.write(NOC)
    file.clear()
    assert caplog.records == []


async def test_links_are_never_followed(tmp_path: Path) -> None:
    precious, directory = tmp_path / "precious", tmp_path / "run"
    precious.write_text("precious")
    precious.chmod(0o600)
    directory.mkdir()
    for name in FILES:
        (directory / name).symlink_to(precious)
        (directory / f".{name}.new").symlink_to(precious)
    file = RelayFile(str(directory))
    file.write(NOC)
    assert precious.read_text() == "precious"
    assert (directory / "relay").read_text() == "noc.example.net:25\n"
    assert not (directory / "relay").is_symlink()
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600
    assert sorted(os.listdir(directory)) == sorted(FILES)


@pytest.mark.parametrize("host", ["a b", "$(id)", "a;b", "a\nb", "'", "é", "a`b`"])
async def test_a_host_that_is_none_is_not_written(tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture) -> None:
    file = RelayFile(str(tmp_path))
    file.write(NOC)
    file.write(Best(host, 25, Source.DNS))
    assert os.listdir(tmp_path) == []
    assert len(warnings(caplog)) == 1
    file.clear()


async def test_a_full_disk_is_one_warning_and_no_lie(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    full = disk("size=16k")
    file = RelayFile(str(full))
    file.write(NOC)
    (full / "big").write_bytes(b"x" * (os.statvfs(full).f_bavail * os.statvfs(full).f_frsize))
    file.write(V6)
    assert os.listdir(full) == ["big"]
    # removing the old files made room: fill that, too
    (full / "big2").write_bytes(b"x" * (os.statvfs(full).f_bavail * os.statvfs(full).f_frsize))
    file.write(NOC)
    file.write(V6)
    assert warnings(caplog) == [f"the relay files in {full} cannot be kept: No space left on device"]
    (full / "big").unlink()
    (full / "big2").unlink()
    file.write(V6)
    assert (full / "relay").read_text() == "[2001:db8::1]:587\n"
    assert caplog.messages[-1] == f"the relay files in {full} are written again"


async def test_what_could_not_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outputs, "AGAIN", 0.01)
    late = tmp_path / "late"
    RelayFile(str(late)).write(NOC)
    assert warnings(caplog) == [f"the relay files in {late} cannot be kept: No such file or directory"]
    late.mkdir()
    async with asyncio.timeout(30):
        while "relay.json" not in os.listdir(late):
            await asyncio.sleep(0.01)
    assert (late / "relay").read_text() == "noc.example.net:25\n"
    assert len(warnings(caplog)) == 1


async def test_a_read_only_disk_is_one_warning(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    read_only = disk("ro")
    file = RelayFile(str(read_only))
    file.write(NOC)
    file.write(V6)
    file.clear()
    assert warnings(caplog) == [f"the relay files in {read_only} cannot be kept: Read-only file system"]


async def test_a_new_error_is_a_new_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "run"
    file = RelayFile(str(directory))
    file.write(NOC)
    directory.touch()
    file.write(NOC)
    directory.unlink()
    directory.mkdir()
    (directory / "relay").mkdir()
    file.write(NOC)
    assert [text.rpartition(": ")[2] for text in warnings(caplog)] == [
        "No such file or directory",
        "Not a directory",
        "Is a directory",
    ]
    assert os.listdir(directory) == ["relay"]  # the others are not left alone with it
    file.clear()


async def test_nothing_stays_open(tmp_path: Path) -> None:
    file = RelayFile(str(tmp_path))
    before = os.listdir("/proc/self/fd")
    for best in (NOC, V6, NONE, Best("a b", 1, Source.DNS)):
        file.write(best)
    file.clear()
    file.move(str(tmp_path / "absent"))
    assert os.listdir("/proc/self/fd") == before
