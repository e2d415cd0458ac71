"""Files followed by inotify and the mount table (rule F1), with each way in which a path comes to name another file."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import resource
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salsa_agent.nameservers import file_watch as inotify
from salsa_agent.nameservers.file_watch import Follower
from tests.lab.needs import Need, require

PATIENCE = 30.0
CLONE_NEWNS = 0x00020000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """What a follower said, and what the file held when it said so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0
        self.news = asyncio.Event()
        self.content = self.read()

    def read(self) -> str | None:
        try:
            return self.path.read_text()
        except OSError:
            return None

    def on_change(self) -> None:
        self.calls += 1
        self.content = self.read()
        self.news.set()

    async def until(self, content: str | None) -> None:
        """Wait until this was there when the follower called."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.content != content:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pytest.fail(f"it never came: {content!r}; it was {self.content!r}, now {self.read()!r}")


async def changes(path: Path, *steps: tuple[Callable[[], object], str | None]) -> Watch:
    """Do one thing after the other; each must be told, with the file as it must be then."""
    watch = Watch(path)
    with Follower([str(path)], watch.on_change):
        for do, content in steps:
            watch.content = "not told"
            do()
            await watch.until(content)
    return watch


def put(path: Path, text: str) -> Callable[[], object]:
    """Replace by rename, as programs do that write with care."""

    def do() -> None:
        new = path.with_name(f"{path.name}.new")
        new.write_text(text)
        new.rename(path)

    return do


def put_deep(path: Path, text: str) -> Callable[[], object]:
    """Make the directories on the way, too."""

    def do() -> None:
        path.parent.mkdir(parents=True)
        path.write_text(text)

    return do


def link(path: Path, target: str) -> Callable[[], object]:
    """Swap a symbolic link."""

    def do() -> None:
        new = path.with_name(f"{path.name}.new")
        new.symlink_to(target)
        new.rename(path)

    return do


async def test_f1_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    await changes(path, (lambda: path.write_text("2"), "2"), (lambda: path.write_text("3"), "3"))


async def test_f1_written_and_not_closed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    with path.open("w") as writer:

        def write() -> None:
            writer.write("2")
            writer.flush()

        await changes(path, (write, "2"))


async def test_f1_closed_after_writing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "WRITING", 2 * PATIENCE)
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    await changes(path, (lambda: path.write_text("2"), "2"))


async def test_f1_changed_by_another_of_its_names(tmp_path: Path) -> None:
    """A hard link, in a directory that is not watched."""
    path, other = tmp_path / "resolv.conf", tmp_path / "elsewhere" / "other"
    put_deep(other, "1")()
    path.hardlink_to(other)
    await changes(path, (lambda: other.write_text("2"), "2"), (lambda: other.chmod(0o600), "2"))


async def test_f1_a_file_that_is_being_written_is_not_read_half(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    watch = Watch(path)
    seen: list[str | None] = []

    def on_change() -> None:
        watch.on_change()
        seen.append(watch.content)

    with Follower([str(path)], on_change):
        with path.open("w") as writer:
            for _ in range(5):  # several turns in which the file is empty
                await asyncio.sleep(0)
            writer.write("2")
        await watch.until("2")
    assert "" not in seen


async def test_f1_renamed_over_removed_and_made(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    await changes(
        path,
        (put(path, "2"), "2"),
        (put(path, "3"), "3"),
        (path.unlink, None),
        (lambda: path.write_text("4"), "4"),
        (lambda: path.rename(tmp_path / "away"), None),
        (lambda: (tmp_path / "away").rename(path), "4"),
        (lambda: path.write_text("5"), "5"),
    )


async def test_f1_mode_changed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    await changes(path, (lambda: path.chmod(0o600), "1"))


async def test_f1_link_swapped_and_its_target_changed(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "resolv.conf"
    path.parent.mkdir()
    (tmp_path / "run").mkdir()
    stub, uplinks = tmp_path / "run" / "stub", tmp_path / "run" / "uplinks"
    stub.write_text("stub")
    uplinks.write_text("uplinks")
    path.symlink_to("../run/stub")
    await changes(
        path,
        (lambda: stub.write_text("stub 2"), "stub 2"),
        (put(stub, "stub 3"), "stub 3"),
        (link(path, "../run/uplinks"), "uplinks"),
        (put(uplinks, "uplinks 2"), "uplinks 2"),
        (link(path, str(stub)), "stub 3"),
        (path.unlink, None),
        (lambda: path.symlink_to("../run/stub"), "stub 3"),
        (lambda: path.rename(tmp_path / "away"), None),
        (link(path, "../run/none"), None),
        (lambda: (tmp_path / "run" / "none").write_text("there"), "there"),
        (put(path, "a file now"), "a file now"),
    )


async def test_f1_link_of_links_and_a_linked_directory(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "conf").write_text(name)
    (tmp_path / "dir").symlink_to("a")
    (tmp_path / "second").symlink_to("dir/../dir/./conf")
    path = tmp_path / "resolv.conf"
    path.symlink_to(tmp_path / "second")
    await changes(
        path,
        (link(tmp_path / "dir", "b"), "b"),
        (put(tmp_path / "b" / "conf", "b 2"), "b 2"),
        (link(tmp_path / "second", "a/conf"), "a"),
    )


async def test_f1_links_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.symlink_to("resolv.conf")
    await changes(path, (put(path, "1"), "1"))


async def test_f1_directories_that_appear_later_go_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "systemd" / "resolve" / "resolv.conf"
    system = tmp_path / "run" / "systemd"
    await changes(
        path,
        (put_deep(path, "1"), "1"),
        (put(path, "2"), "2"),
        (lambda: system.rename(tmp_path / "away"), None),
        (lambda: (tmp_path / "away").rename(system), "2"),
        (lambda: path.write_text("3"), "3"),
        (lambda: subprocess.run(["rm", "-r", str(tmp_path / "run")], check=True), None),
        (put_deep(path, "4"), "4"),
    )


@pytest.fixture
def mounts() -> Iterator[None]:
    """This thread has a mount table of its own, nothing of which is seen outside."""
    require(Need.NAMESPACES)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    cwd = os.getcwd()
    try:
        assert _libc.unshare(CLONE_NEWNS | 0x200) == 0, os.strerror(ctypes.get_errno())  # CLONE_FS: so setns can
        run("mount", "--make-rprivate", "/")
        yield
    finally:
        assert _libc.setns(before, CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        os.close(before)
        os.chdir(cwd)


def run(*argv: object) -> None:
    subprocess.run([str(one) for one in argv], check=True)


@pytest.mark.usefixtures("mounts")
async def test_f1_bind_mounts_over_the_file(tmp_path: Path) -> None:
    path, over = tmp_path / "resolv.conf", tmp_path / "over"
    path.write_text("1")
    over.write_text("over")
    await changes(
        path,
        (lambda: run("mount", "--bind", over, path), "over"),
        (lambda: over.write_text("over 2"), "over 2"),
        (lambda: run("umount", path), "1"),
        (lambda: path.write_text("2"), "2"),
        (lambda: run("mount", "--bind", over, path), "over 2"),
        (lambda: run("umount", path), "2"),
    )


@pytest.mark.usefixtures("mounts")
async def test_f1_mounts_over_a_directory_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "run" / "resolv.conf"
    path.parent.mkdir()
    path.write_text("1")
    await changes(
        path,
        (lambda: run("mount", "-t", "tmpfs", "tmpfs", path.parent), None),
        (lambda: path.write_text("2"), "2"),
        (lambda: run("umount", path.parent), "1"),
    )


@pytest.mark.usefixtures("mounts")
async def test_f1_other_mounts_and_files_are_nothing_to_tell(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    (tmp_path / "elsewhere").mkdir()
    watch = Watch(path)
    with Follower([str(path)], watch.on_change):
        run("mount", "-t", "tmpfs", "tmpfs", tmp_path / "elsewhere")
        (tmp_path / "hosts").write_text("1")
        path.read_text()
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert watch.calls == 0
        put(path, "2")()  # and yet it still listens
        await watch.until("2")


@pytest.fixture
def no_mount_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without /proc. Other programs mount and unmount meanwhile, which reaches even a mount namespace of our own."""
    monkeypatch.setattr(Follower, "_on_mounts", lambda self: self._mounts.poll(0))


@pytest.fixture
def walks(no_mount_table: None, monkeypatch: pytest.MonkeyPatch) -> list[Follower]:
    """One entry for each time that a follower went along all of its paths because of an event of inotify."""
    done: list[Follower] = []
    look = Follower._update_watches

    def counted(self: Follower) -> None:
        done.append(self)
        look(self)

    monkeypatch.setattr(Follower, "_update_watches", counted)
    return done


async def all_read(follower: Follower) -> None:
    """Wait until the follower has taken all events there are."""
    waiting = ctypes.c_int(1)
    async with asyncio.timeout(PATIENCE):
        while waiting.value:
            await asyncio.sleep(0)
            assert _libc.ioctl(follower._inotify, termios.FIONREAD, ctypes.byref(waiting)) == 0


async def test_f1_a_busy_directory_costs_one_reading_and_nothing_else(tmp_path: Path, walks: list[Follower]) -> None:
    """Other names in it (made, written, chmod, moved, removed) lead to no walk along the paths, and no call."""
    path = tmp_path / "run" / "bus"
    put_deep(path, "1")()
    other, moved = path.with_name("other"), path.with_name("bus.new")
    watch = Watch(path)
    with Follower([str(path), str(tmp_path / "run" / "none")], watch.on_change) as follower:
        walks.clear()
        for _ in range(20):
            other.write_text("1")
            await all_read(follower)
            other.chmod(0o600)
            other.rename(moved)
            await all_read(follower)
            moved.unlink()
            other.mkdir()
            other.rmdir()
            await all_read(follower)
        assert (len(walks), watch.calls) == (0, 0)
        put(path, "2")()
        await watch.until("2")
        assert walks


async def test_f1_writing_on_and_on_is_told_now_and_then(tmp_path: Path, walks: list[Follower]) -> None:
    """A write moves no path: no walk."""
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    watch = Watch(path)
    with Follower([str(path)], watch.on_change) as follower, path.open("a", buffering=1) as writer:
        walks.clear()
        for _ in range(50):
            writer.write("2\n")
            await all_read(follower)
        writer.write("3")
        writer.flush()
        await watch.until("1" + "2\n" * 50 + "3")
        await asyncio.sleep(0.1)  # the calls there would be, had each write its own
        assert watch.calls < 25
        assert not walks


async def test_f1_what_is_no_longer_on_the_way_is_not_told(tmp_path: Path) -> None:
    """Nor is that the watch there was removed."""
    for name in "ab":
        put_deep(tmp_path / name / "conf", name)()
    link(tmp_path / "dir", "a")()
    watch = Watch(tmp_path / "dir" / "conf")
    with Follower([str(watch.path)], watch.on_change) as follower:
        link(watch.path.parent, "b")()
        await watch.until("b")
        await all_read(follower)
        assert watch.calls == 1
        put(tmp_path / "a" / "conf", "a 2")()
        await all_read(follower)
        assert watch.calls == 1
        watches = Path(f"/proc/self/fdinfo/{follower._inotify}").read_text().count("inotify wd:")
        assert watches == len(follower._names)


async def test_f1_mode_of_a_directory_changed(tmp_path: Path) -> None:
    """It may keep us out, or no longer."""
    path = tmp_path / "run" / "resolv.conf"
    put_deep(path, "1")()
    await changes(path, (lambda: path.parent.chmod(0o700), "1"), (lambda: path.parent.chmod(0o755), "1"))


@pytest.mark.parametrize("depth", [1, 2])
async def test_f1_a_watch_that_the_kernel_took_away_is_set_again(tmp_path: Path, depth: int) -> None:
    """IN_IGNORED alone, as nothing but this test brings it about: for the file itself, and for its directory."""
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    watch = Watch(path)
    with Follower([str(path)], watch.on_change) as follower:
        assert _libc.inotify_rm_watch(follower._inotify, sorted(follower._names)[-depth]) == 0
        async with asyncio.timeout(PATIENCE):
            await watch.news.wait()
        (lambda: path.write_text("2"), put(path, "2"))[depth - 1]()
        await watch.until("2")


@pytest.mark.usefixtures("mounts", "no_mount_table")
async def test_f1_an_unmount_is_told_by_inotify_too(tmp_path: Path) -> None:
    path = tmp_path / "run" / "resolv.conf"
    put_deep(path, "1")()
    run("mount", "-t", "tmpfs", "tmpfs", path.parent)
    path.write_text("2")
    await changes(path, (lambda: run("umount", path.parent), "1"), (lambda: path.write_text("3"), "3"))


@pytest.mark.usefixtures("mounts")
async def test_f1_no_mount_is_missed_while_a_directory_is_busy(tmp_path: Path) -> None:
    path, over = tmp_path / "resolv.conf", tmp_path / "over"
    path.write_text("1")
    over.write_text("over")

    async def busy() -> None:
        while True:
            (tmp_path / "other").write_text("")
            (tmp_path / "other").unlink()
            await asyncio.sleep(0)

    noise = asyncio.create_task(busy())
    mount, unmount = (lambda: run("mount", "--bind", over, path), "over"), (lambda: run("umount", path), "1")
    try:
        await changes(path, *[mount, unmount] * 10)
    finally:
        noise.cancel()


async def test_f1_two_paths(tmp_path: Path) -> None:
    told = asyncio.Event()
    paths = [tmp_path / "one", tmp_path / "two"]
    with Follower([str(path) for path in paths], told.set):
        for path in [*paths, *paths]:
            put(path, "1")()
            await asyncio.wait_for(told.wait(), PATIENCE)
            told.clear()


async def test_f1_a_directory_that_is_a_path_itself_and_on_the_way_of_another(tmp_path: Path) -> None:
    """The kernel has one watch for it, with one mask."""
    directory = tmp_path / "run"
    directory.mkdir()
    path = directory / "resolv.conf"
    watch = Watch(path)
    new = tmp_path / "elsewhere" / "new"  # its own directory is not watched
    put_deep(new, "1")()
    with Follower([str(path), str(directory)], watch.on_change):
        new.rename(path)
        await watch.until("1")


async def test_f1_a_lost_event_is_made_good(tmp_path: Path) -> None:
    """The queue overflows: what was lost is unknown, so it counts as a change."""
    path = tmp_path / "resolv.conf"
    path.write_text("1")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watch = Watch(path)
    with Follower([str(path)], watch.on_change):
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_text("")
        for number in range(limit):  # two events each, all of them different from the one before
            one.rename(two) if number % 2 == 0 else two.rename(one)
        path.write_text("2")
        await watch.until("2")


async def test_f1_nothing_is_left(tmp_path: Path) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    path = tmp_path / "resolv.conf"
    before = descriptors()
    for _ in range(3):
        await changes(path, (put(path, "1"), "1"))
    assert descriptors() == before


async def test_f1_without_inotify_it_says_so_and_mounts_still_count(
    tmp_path: Path, mounts: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's inotify instances are used up (fs.inotify.max_user_instances)."""

    class NoInotify:
        def inotify_init1(self, flags: int) -> int:
            ctypes.set_errno(errno.EMFILE)
            return -1

        def inotify_rm_watch(self, fd: int, watch: int) -> int:
            raise AssertionError

    # a mock: the limit is the whole user's, here root's, and other programs would suffer
    monkeypatch.setattr(inotify, "_libc", NoInotify())
    path, over = tmp_path / "resolv.conf", tmp_path / "over"
    path.write_text("1")
    over.write_text("2")
    with caplog.at_level(logging.WARNING, "salsa-agent"):
        await changes(path, (lambda: run("mount", "--bind", over, path), "2"))
    assert [record.message for record in caplog.records] == [
        f"inotify: Too many open files: changes of {path} are noticed late"
    ]


@pytest.mark.parametrize("free", [0, 1, 2, 3])
async def test_f1_without_descriptors_nothing_is_left_open(
    tmp_path: Path, free: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and what it could not open is not followed."""
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(2))
        for _ in range(min(free, len(taken))):
            os.close(taken.pop())
        with Follower([str(tmp_path / "x")], lambda: None):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before
    assert bool(caplog.records) is (free < 2)


async def test_e3_where_nothing_can_be_opened_other_paths_are_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor that was closed again may be somebody else's by then."""

    def full() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:  # a mock: a real limit would hit the test itself
        patched.setattr("salsa_agent.nameservers.file_watch.select.epoll", full)
        with Follower([str(tmp_path / "one")], lambda: None) as follower:
            assert not follower.complete
            follower.follow([str(tmp_path / "two")])
            assert follower._names == {}
