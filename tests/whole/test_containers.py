"""docs/containers.md: `salsactl find` where there is next to nothing: a bare container, an initramfs, a job of cron."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import container
from tests.lab.bus import PROJECT
from tests.lab.container import inside
from tests.lab.run import run
from tests.lab.unpacked import Unpacked
from tests.lab.whole import HOME, NOC, SERVER, VERTEX, World, until

ADDRESS = "165.154.15.1"
DOCUMENT = PROJECT / "docs" / "containers.md"
STATIC = f'[static]\nrelays = ["{HOME}"]\n'

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("boot")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of the image that examples/Containerfile describes."""
    with container.image(tmp_path_factory.mktemp("image")) as root:
        yield root


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `./run install` puts below /usr."""
    root = tmp_path_factory.mktemp("installed")
    run("install", DESTDIR=str(root), PREFIX="/usr")
    return root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        for name in ("all", "default", "lo", "up0"):
            made.host.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
        for relay in (NOC, VERTEX, HOME):
            made.relay(relay, "starttls")
        made.join(ADDRESS)
        yield made


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("etc") / "resolv.conf"
    file.write_text(f"nameserver {SERVER}\n")
    return file


def document(name: str) -> str:
    """A named block of the page."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


# --- a bare container

BARE = """\
[ $$ = 1 ] && [ "$(cat /proc/1/comm)" = sh ] || exit 10
for program in dbus-daemon dbus-broker systemd busctl ip; do
    ! command -v $program >/dev/null && [ ! -e /usr/lib/systemd/$program ] || exit 11
done
[ ! -e /run/dbus ] || exit 12
if (echo x >/x) 2>/dev/null; then exit 13; fi
! grep -qv ' lo$' /proc/net/if_inet6 2>/dev/null || exit 14
salsactl find
"""


def test_find_in_a_bare_container(world: World, image: Path, resolver: Path) -> None:
    """No D-Bus, no systemd, a shell as PID 1, no IPv6, a root that is read-only, a user without a name."""
    done = inside(world.host, image, BARE, resolver=resolver)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NOC}:25\n", "")


def test_find_in_a_bare_container_gives_each_format(world: World, image: Path, resolver: Path) -> None:
    said = {
        form: inside(world.host, image, f"salsactl find --format {form}", resolver=resolver).stdout
        for form in ("json", "env", "postfix", "msmtp", "nullmailer")
    }
    assert json.loads(said.pop("json"))["verdict"] == "ok"
    assert all(NOC in text for text in said.values()), said


LEFT = """\
list() {
    find / -xdev -path /proc -prune -o -path /work -prune -o -printf '%p %m %U %s %T@ %C@\\n' | sort
    cat /proc/mounts
}
processes() { set -- /proc/[0-9]*; echo "$*"; }
list >/dev/null
{ list; processes; } >/work/before
salsactl find || exit
{ list; processes; } >/work/after
"""


def test_find_leaves_nothing_behind_in_a_container(world: World, image: Path, resolver: Path, tmp_path: Path) -> None:
    """As root on a root that may be written: no file is made, changed or removed, no process is left."""
    done = inside(world.host, image, LEFT, resolver=resolver, read_only=False, user=0, work=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NOC}:25\n", "")
    before, after = ((tmp_path / name).read_text().splitlines() for name in ("before", "after"))
    assert len(before) > 1000
    assert sorted(set(after) ^ set(before)) == []


def test_find_leaves_no_name_on_the_bus_no_socket_and_no_address(world: World, installed: Path) -> None:
    """On a host with a system bus, which it may read."""

    def state() -> dict[str, str]:
        names = json.loads(world.busctl("list"))
        return {
            "names": "\n".join(sorted(one["name"] for one in names if not one["name"].startswith(":"))),
            "connections": str(sum(one["name"].startswith(":") for one in names)),
            # what the kernel remembers of a connection that both sides have closed is no socket (TIME-WAIT, RFC 9293)
            "sockets": world.host.run(
                ["ss", "--no-header", "--tcp", "--udp", "--raw", "--all", "state", "all", "exclude", "time-wait"]
            ),
            "network": world.host.ip("address") + world.host.ip("route", "show", "table", "all"),
            "processes": subprocess.run(
                ["ip", "netns", "pids", world.host.name], capture_output=True, text=True
            ).stdout,
        }

    world.configure(STATIC)
    before = state()
    program = installed / "usr/bin/salsactl"
    script = program.read_text().replace('"/usr/lib', f'"{installed}/usr/lib')
    found = world.start(world.host, ["python3", "-IS", "-c", script, "find", "--config", str(world.config)])
    assert (found.popen.wait(60), found.out, found.log) == (0, f"{NOC}:25\n", "")
    assert state() == before


# --- an initramfs


def test_find_in_an_initramfs(world: World, installed: Path, resolver: Path, tmp_path: Path) -> None:
    """Python, what it loads, the program, /etc/resolv.conf: no shell, no users, no /proc, no /dev, no machine id."""
    root = tmp_path / "root"
    container.minimal(root, installed)
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").write_text(resolver.read_text())
    assert {path.name for path in root.iterdir()} <= {"etc", "lib", "lib64", "usr"}
    before = sorted(root.rglob("*"))
    for form, wanted in (
        ("text", f"{NOC}:25\n"),
        ("env", f"SALSA_HOST={NOC}\nSALSA_PORT=25\nSALSA_SOURCE=dns\nSALSA_TLS=starttls\n"),
    ):
        done = subprocess.run(
            ["ip", "netns", "exec", world.host.name, "unshare", "--pid", "--fork", "--kill-child",
             "env", "-i", "/usr/sbin/chroot", str(root), "/usr/bin/python3", "-IS", "/usr/bin/salsactl",
             "find", "--format", form],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    assert sorted(root.rglob("*")) == before


# --- cron


def test_find_as_a_job_of_cron(world: World, installed: Path) -> None:
    """Debian's cron runs the page's job: no terminal, /bin/sh, a short PATH."""
    with Unpacked(world.host, "cron", shared={"/opt/salsa": installed}) as machine:
        machine.write(
            "/usr/bin/salsactl",
            (installed / "usr/bin/salsactl").read_text().replace("/usr/lib/", "/opt/salsa/usr/lib/"),
            0o755,
        )
        machine.write("/etc/crontab", "")
        machine.write(
            "/etc/cron.d/salsa",
            document("crontab").replace("*/5 * * * *", "@reboot")
            + "@reboot root env >/run/environment; tty >>/run/environment\n",
        )
        world.start(world.host, machine.argv("cron", "-f", "-L", "15"))
        relay, environment = machine.path("/run/relay.env"), machine.path("/run/environment")
        until(lambda: relay.exists() and bool(relay.read_text()), bool)
        assert relay.read_text() == f"SALSA_HOST={NOC}\nSALSA_PORT=25\nSALSA_SOURCE=dns\nSALSA_TLS=starttls\n"
        seen = until(environment.read_text, lambda text: "not a tty" in text)
        assert "SHELL=/bin/sh" in seen
        assert "DBUS" not in seen


def test_find_says_nothing_of_changes_that_it_could_not_follow(
    world: World, image: Path, resolver: Path, tmp_path: Path
) -> None:
    """Containers share what inotify gives to one user. Where that is used up the agent warns, as it should."""
    tmp_path.chmod(0o755)
    (tmp_path / "used_up.py").write_text(
        "import ctypes\nlibc = ctypes.CDLL(None)\nwhile libc.inotify_init1(0) >= 0:\n    pass\n"
        "exec(open('/usr/bin/salsactl').read())\n"
    )
    script = "python3 -IS /work/used_up.py find"
    done = inside(world.host, image, script, resolver=resolver, user=64123, work=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NOC}:25\n", "")


# --- the page


def test_an_entry_point_gives_msmtp_its_account(world: World, image: Path, resolver: Path, tmp_path: Path) -> None:
    """It ends before the program where there is no relay."""
    (tmp_path / "start").write_text(document("entrypoint"))
    script = "sh /work/start cat /work/msmtprc"
    done = inside(world.host, image, script, resolver=resolver, user=0, work=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"account default\nhost {NOC}\nport 25\ntls on\ntls_starttls on\n")
    nobody = tmp_path / "resolv.conf"
    nobody.write_text("nameserver 192.0.2.99\n")
    world.far.ip("addr", "add", "192.0.2.99/32", "dev", "down0")  # refuses at once
    script = script.replace("sh /work", "sed -i s/10/1/ /work/start; sh /work")
    done = inside(world.host, image, script, resolver=nobody, user=0, work=tmp_path)
    assert (done.returncode, done.stdout) != (0, "")
    assert "account" not in done.stdout


@pytest.mark.parametrize(
    ("timeout", "said"),
    [("20", f"results go out by way of {NOC}:25\n"), ("0", "the network did not answer in time; no mail today\n")],
)
def test_a_job_tells_what_became_of_it(world: World, image: Path, resolver: Path, timeout: str, said: str) -> None:
    script = document("job").replace("--timeout 20", f"--timeout {timeout}")
    done = inside(world.host, image, script, resolver=resolver)
    assert done.returncode == 0
    assert said in done.stdout + done.stderr


def test_the_blocks_of_the_page_are_run(world: World, image: Path, resolver: Path) -> None:
    done = inside(world.host, image, document("find"), resolver=resolver)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"SALSA_HOST={NOC}")
    assert document("build") in container.CONTAINERFILE.read_text().replace("#     ", ""), "the fixture runs this"
    blocks = [line.split()[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("```") and len(line) > 3]
    tests = Path(__file__).read_text()
    assert [name for name in blocks if f'document("{name}")' not in tests] == []
