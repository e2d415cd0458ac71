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
from typing import Any

import pytest

from salsa_agent.core.model import (
    Best,
    ListedRelay,
    Publication,
    Relay,
    RelayKey,
    SenderChoice,
    Source,
    State,
    Verdict,
)
from salsa_agent.core.settings import Settings, Verify
from salsa_agent.outputs import relay_files as outputs
from salsa_agent.outputs.relay_files import FILES, RelayFile
from tests.lab.needs import Need, require

NOC = Best("noc.example.net", 25, Source.DNS)
V6 = Best("2001:db8::1", 587, Source.STATIC)
NONE = Best()

Disk = Callable[[str], Path]


def settings(directory: Path | str, *, enabled: bool = True) -> Settings:
    return Settings(output_directory=str(directory), verify=Verify(enabled=enabled))


def keeper(directory: Path | str) -> RelayFile:
    return RelayFile(settings(directory))


def said(
    best: Best, *relays: ListedRelay, state: State = State.READY, senders: tuple[SenderChoice, ...] = ()
) -> Publication:
    """A publication with this best relay, which the list holds if it names none."""
    own = (ListedRelay(Relay(RelayKey(best.host, best.port), best.source), Verdict.OK),) if best.host else ()
    return Publication(state, best, relays or own, senders=senders)


def listed(host: str, source: Source, verdict: Verdict, port: int = 25, **more: Any) -> ListedRelay:
    return ListedRelay(Relay(RelayKey(host, port), source, **more), verdict)


def shell(directory: Path) -> list[str]:
    """What a shell that sources `relay.env` has, with everything that it might trip over switched on."""
    values = '"$SALSA_HOST" "$SALSA_PORT" "$SALSA_SOURCE" "tls=$SALSA_TLS"'
    script = f'set -eu; . ./relay.env; printf "%s\\n" {values}; set | grep -c ^SALSA_'
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


def read(directory: Path) -> Any:
    """What `relay.json` holds."""
    return json.loads((directory / "relay.json").read_text())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "salsa-agent")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a small file system of its own (tmpfs) with these options."""
    require(Need.NAMESPACES)
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


async def test_the_files(tmp_path: Path) -> None:
    keeper(tmp_path).publish(said(NOC))
    assert (tmp_path / "relay").read_text() == "noc.example.net:25\n"
    assert shell(tmp_path) == ["noc.example.net", "25", "dns", "tls=", "4"]
    assert read(tmp_path) == {
        "host": "noc.example.net", "port": 25, "source": "dns", "tls": "", "verdict": "ok", "state": "ready",
        "senders": [],
    }  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


async def test_an_ipv6_literal_has_brackets_in_relay_only(tmp_path: Path) -> None:
    keeper(tmp_path).publish(said(V6))
    assert (tmp_path / "relay").read_text() == "[2001:db8::1]:587\n"
    assert shell(tmp_path) == ["2001:db8::1", "587", "static", "tls=", "4"]
    assert read(tmp_path)["host"] == "2001:db8::1"


async def test_no_relay_is_an_empty_file(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    file.publish(said(NOC))
    file.publish(said(NONE))
    assert (tmp_path / "relay").read_bytes() == b""
    assert shell(tmp_path) == ["", "0", "none", "tls=", "4"]
    assert read(tmp_path) == {
        "host": "", "port": 0, "source": "none", "tls": "", "verdict": "", "state": "ready", "senders": [],
    }  # fmt: skip
    assert (tmp_path / "relays").read_bytes() == b""


LIST = (
    listed("dead.example", Source.DNS, Verdict.FAILED),
    listed("best.example", Source.LINK, Verdict.OK),
    listed("unknown.example", Source.DNS, Verdict.UNVERIFIED),
    listed("second.example", Source.DNS, Verdict.OK),
    listed("both.example", Source.DNS, Verdict.UNVERIFIED, administrator=True),
    listed("2001:db8::1", Source.SITE, Verdict.UNVERIFIED, 587),
    listed("home.example", Source.STATIC, Verdict.UNVERIFIED),
    listed("broken.example", Source.STATIC, Verdict.FAILED),
)
BEST = Best("best.example", 25, Source.LINK)


async def test_relays_holds_the_best_then_what_mail_may_go_on_to(tmp_path: Path) -> None:
    keeper(tmp_path).publish(said(BEST, *LIST))
    assert (tmp_path / "relay").read_text() == "best.example:25\n"
    assert (tmp_path / "relays").read_text().split() == [
        "best.example:25", "second.example:25", "both.example:25", "[2001:db8::1]:587", "home.example:25",
    ]  # fmt: skip


async def test_relays_without_verification_holds_all_that_have_not_failed(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    file.publish(said(BEST, *LIST))
    file.configure(settings(tmp_path, enabled=False))
    assert (tmp_path / "relays").read_text().split()[1:3] == ["unknown.example:25", "second.example:25"]
    assert "dead.example" not in (tmp_path / "relays").read_text()


async def test_d3_a_failed_last_resort_comes_first_and_the_best_may_be_out_of_the_list(tmp_path: Path) -> None:
    last = Best("broken.example", 25, Source.STATIC)
    file = keeper(tmp_path)
    file.publish(said(last, *LIST[:1], LIST[-1]))
    assert (tmp_path / "relays").read_text() == "broken.example:25\n"
    assert read(tmp_path)["verdict"] == "failed"
    file.publish(said(Best("gone.example", 465, Source.DNS), *LIST[3:4]))
    assert (tmp_path / "relays").read_text() == "gone.example:465\nsecond.example:25\n"
    assert read(tmp_path)["tls"] == "implicit"


async def test_d10_the_files_say_how_the_best_relay_is_to_be_spoken_to(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    for relay, tls in (
        (LIST[1], ""),
        (LIST[1]._replace(tls="starttls"), "starttls"),
        (LIST[1]._replace(tls="none"), "none"),
        (LIST[1]._replace(relay=LIST[1].relay._replace(srv="submissions")), "implicit"),
    ):
        file.publish(said(BEST, relay))
        assert read(tmp_path)["tls"] == tls
        assert shell(tmp_path)[3] == f"tls={tls}"


async def test_relay_json_has_the_state_and_the_senders(tmp_path: Path) -> None:
    own = listed("smtp.home.example", Source.SENDER, Verdict.OK, 465)
    senders = (
        SenderChoice(("*@home.example", "a@b"), "last", Best(*own.relay.key, Source.SENDER), (own,), True),
        SenderChoice(("*@work.example",)),
    )
    file = keeper(tmp_path)
    file.publish(said(BEST, *LIST, state=State.DEGRADED, senders=senders))
    assert read(tmp_path)["state"] == "degraded"
    assert read(tmp_path)["senders"] == [
        {"address": ["*@home.example", "a@b"], "network": "last", "host": "smtp.home.example", "port": 465,
         "source": "sender", "tls": "implicit"},
        {"address": ["*@work.example"], "network": "never", "host": "", "port": 0, "source": "none", "tls": ""},
    ]  # fmt: skip
    file.publish(said(BEST, *LIST, senders=senders))
    assert read(tmp_path)["state"] == "ready"


async def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    file.publish(said(BEST, *LIST))
    before = {name: (tmp_path / name).stat().st_ino for name in FILES}
    file.publish(said(BEST, *(one._replace(relay=one.relay._replace(expires=7.0)) for one in LIST)))
    assert {name: (tmp_path / name).stat().st_ino for name in FILES} == before


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
async def test_the_mode_is_0644_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        keeper(tmp_path).publish(said(NOC))
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in FILES] == [0o644] * 4


async def test_files_are_replaced_by_rename(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    file.publish(said(NOC))
    with (tmp_path / "relay").open() as reader:
        file.publish(said(V6))
        assert reader.read() == "noc.example.net:25\n"  # who has it open reads the old one, whole
    assert (tmp_path / "relay").read_text() == "[2001:db8::1]:587\n"


async def test_an_agent_that_stopped_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / ".relay.new").touch()  # of a run that was killed
    file = keeper(tmp_path)
    file.publish(said(NOC))
    file.clear()
    assert os.listdir(tmp_path) == ["other"]


async def test_what_an_earlier_run_left_is_cleared(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("old.example.net:25\n")
    keeper(tmp_path).clear()
    assert os.listdir(tmp_path) == []


async def test_a_move_clears_the_old_directory(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    file = keeper(old)
    file.configure(settings(new))
    assert os.listdir(new) == []  # nothing is known yet
    file.publish(said(NOC))
    file.configure(settings(old))
    assert os.listdir(new) == []
    assert (old / "relay").read_text() == "noc.example.net:25\n"
    file.configure(settings(""))
    assert os.listdir(old) == []
    file.configure(settings(new))
    assert (new / "relay").read_text() == "noc.example.net:25\n"


async def test_a_move_to_the_same_directory_writes_anew(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    file.publish(said(NOC))
    (tmp_path / "relay").unlink()
    file.configure(settings(tmp_path))
    assert (tmp_path / "relay").read_text() == "noc.example.net:25\n"


async def test_no_directory_means_no_files(caplog: pytest.LogCaptureFixture) -> None:
    file = keeper("")
    file.publish(said(NOC))
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
    file = keeper(directory)
    file.publish(said(NOC))
    assert precious.read_text() == "precious"
    assert (directory / "relay").read_text() == "noc.example.net:25\n"
    assert not (directory / "relay").is_symlink()
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600
    assert sorted(os.listdir(directory)) == sorted(FILES)


@pytest.mark.parametrize("host", ["a b", "$(id)", "a;b", "a\nb", "'", "é", "a`b`"])
async def test_a_host_that_is_none_is_not_written(tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture) -> None:
    file = keeper(tmp_path)
    file.publish(said(NOC))
    file.publish(said(Best(host, 25, Source.DNS)))
    assert os.listdir(tmp_path) == []
    assert len(warnings(caplog)) == 1
    file.clear()


async def test_a_full_disk_is_one_warning_and_no_lie(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    full = disk("size=16k")
    file = keeper(full)
    file.publish(said(NOC))
    (full / "big").write_bytes(b"x" * (os.statvfs(full).f_bavail * os.statvfs(full).f_frsize))
    file.publish(said(V6))
    assert os.listdir(full) == ["big"]
    # removing the old files made room: fill that, too
    (full / "big2").write_bytes(b"x" * (os.statvfs(full).f_bavail * os.statvfs(full).f_frsize))
    file.publish(said(NOC))
    file.publish(said(V6))
    assert warnings(caplog) == [f"the relay files in {full} cannot be written: No space left on device"]
    (full / "big").unlink()
    (full / "big2").unlink()
    file.publish(said(V6))
    assert (full / "relay").read_text() == "[2001:db8::1]:587\n"
    assert caplog.messages[-1] == f"the relay files in {full} are written again"


async def test_what_could_not_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outputs, "AGAIN", 0.01)
    late = tmp_path / "late"
    keeper(late).publish(said(NOC))
    assert warnings(caplog) == [f"the relay files in {late} cannot be written: No such file or directory"]
    late.mkdir()
    async with asyncio.timeout(30):
        while "relay.json" not in os.listdir(late):
            await asyncio.sleep(0.01)
    assert (late / "relay").read_text() == "noc.example.net:25\n"
    assert len(warnings(caplog)) == 1


async def test_files_that_others_removed_or_replaced_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LOOK", 0.01)
    directory = tmp_path / "run"
    directory.mkdir()
    file = keeper(directory)
    file.publish(said(NOC))

    async def is_back() -> None:
        async with asyncio.timeout(30):
            while sorted(os.listdir(directory)) != sorted(FILES) or "noc" not in (directory / "relay").read_text():
                await asyncio.sleep(0.01)

    (directory / "relay").unlink()
    await is_back()
    (directory / "forged").write_text("elsewhere.example:25\n")
    (directory / "forged").rename(directory / "relay")
    await is_back()
    directory.rename(tmp_path / "moved")
    directory.mkdir()
    await is_back()
    assert os.listdir(tmp_path / "moved") == [], "nobody keeps them up to date there"
    file.clear()


async def test_a_read_only_disk_is_one_warning(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    read_only = disk("ro")
    file = keeper(read_only)
    file.publish(said(NOC))
    file.publish(said(V6))
    file.clear()
    assert warnings(caplog) == [f"the relay files in {read_only} cannot be written: Read-only file system"]


async def test_a_new_error_is_a_new_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "run"
    file = keeper(directory)
    file.publish(said(NOC))
    directory.touch()
    file.publish(said(NOC))
    directory.unlink()
    directory.mkdir()
    (directory / "relay").mkdir()
    file.publish(said(NOC))
    assert [text.rpartition(": ")[2] for text in warnings(caplog)] == [
        "No such file or directory",
        "Not a directory",
        "Is a directory",
    ]
    assert os.listdir(directory) == ["relay"]  # the others are not left alone with it
    file.clear()


async def test_nothing_stays_open(tmp_path: Path) -> None:
    file = keeper(tmp_path)
    before = os.listdir("/proc/self/fd")
    for best in (NOC, V6, NONE, Best("a b", 1, Source.DNS)):
        file.publish(said(best))
    file.clear()
    file.configure(settings(tmp_path / "absent"))
    assert os.listdir("/proc/self/fd") == before
