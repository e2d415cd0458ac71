"""Real message buses for tests: system-like ones with the project's policy, on dbus-daemon and on dbus-broker.

Each is gone when its block ends, and when the test run is killed. The buses know a user `salsa-agent`
(SERVICE_UID) that the machine need not have: they see an /etc/passwd of their own, where namespaces can be made.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from salsa_agent.bus import message as wire
from salsa_agent.bus.message import Header
from tests.lab.messages import frame
from tests.lab.needs import Need, missing, require

PATIENCE = 30.0
PROJECT = Path(__file__).parents[2]
POLICY = PROJECT / "dbus" / "org.salsa.Agent1.conf"
ROOT, NOBODY, SERVICE_UID = 0, 65534, 64999
STRANGERS = (64001, 64002, 64003)  # more users; dbus-daemon lets in none that it cannot look up
KINDS = ("dbus-daemon", "dbus-broker")

CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={directory}/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{directory}/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Peer"/>
  </policy>
  <policy user="root"><allow send_destination="org.freedesktop.DBus"/></policy>
  {policy}
</busconfig>
"""

_IN_DAEMON = """\
mount --bind "$1/passwd" /etc/passwd &&
exec dbus-daemon --config-file="$1/bus.conf" --nofork --nopidfile --print-address=1
"""

# dbus-broker-launch wants a socket from its parent, a journal to write to, and /run/systemd, which a container may lack
_IN_BROKER = """\
import os, socket, subprocess, sys
directory = sys.argv[1]
subprocess.run(["mount", "--bind", f"{directory}/passwd", "/etc/passwd"], check=True)
if not os.path.getsize("/etc/machine-id"):  # dbus-broker-launch wants one, too; a container's may not be made yet
    with open(f"{directory}/machine-id", "w") as identity:
        print("5a15a5a15a5a15a5a15a5a15a5a15a5a", file=identity)
    subprocess.run(["mount", "--bind", identity.name, "/etc/machine-id"], check=True)
covered = "/run/systemd" if os.path.isdir("/run/systemd") else "/run"
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", covered], check=True)
os.makedirs("/run/systemd", exist_ok=True)
os.mkdir("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"{directory}/bus")
os.chmod(f"{directory}/bus", 0o666)
listener.listen(64)
if os.fork() == 0:
    listener.close()
    os.close(1)
    while True:
        journal.recv(1 << 16)
os.dup2(listener.fileno(), 3, inheritable=True)
print(f"unix:path={directory}/bus", flush=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="dbus.socket",
                  DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={directory}/bus")
os.execvp("dbus-broker-launch", ["dbus-broker-launch", "--scope", "system", f"--config-file={directory}/bus.conf"])
"""


@dataclass
class Done:
    """A program that ran to its end."""

    status: int
    out: str
    err: str


class Bus:
    """A running bus. `process`: of dbus-daemon, the daemon itself."""

    def __init__(self, address: str, directory: Path, process: subprocess.Popen[Any]) -> None:
        self.address = address
        self.directory = directory
        self.process = process

    def stop(self) -> None:
        """SIGSTOP: it takes nothing and says nothing (dbus-daemon only)."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """For programs that shall take it for the system bus."""
        return os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": self.address}

    async def run(self, argv: Sequence[str], *, uid: int = ROOT) -> Done:
        """Run a program as `uid`, this bus being its system bus."""
        if uid != ROOT:
            _require_user(uid)
            argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *argv]
        process = await asyncio.create_subprocess_exec(
            *argv, env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd="/"
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def busctl(self, *args: str, uid: int = ROOT) -> Done:
        """`busctl` on this bus."""
        return await self.run(["busctl", "--system", "--no-pager", *args], uid=uid)


@contextmanager
def system_bus(kind: str = "dbus-daemon", *, policy: bool = True, extra: str = "") -> Iterator[Bus]:
    """A system-like bus, by default with the project's policy. `extra`: more of its configuration."""
    directory = Path(tempfile.mkdtemp(prefix="salsa-bus-"))
    process: subprocess.Popen[Any] | None = None
    try:
        directory.chmod(0o755)
        (directory / "services").mkdir()
        (directory / "policy").mkdir()
        if policy:
            shutil.copy(POLICY, directory / "policy")
        included = f"{extra}<includedir>{directory}/policy</includedir>"
        (directory / "bus.conf").write_text(CONFIG.format(directory=directory, policy=included))
        users = [one for one in Path("/etc/passwd").read_text().splitlines() if not one.startswith("salsa-agent:")]
        for name, uid in (("salsa-agent", SERVICE_UID), *((f"stranger{uid}", uid) for uid in STRANGERS)):
            users.append(f"{name}:x:{uid}:{uid}::/:/usr/sbin/nologin")
        (directory / "passwd").write_text("\n".join(users) + "\n")
        if kind == "dbus-daemon":
            inside = ["unshare", "--mount", "sh", "-c", _IN_DAEMON, "sh", str(directory)]
            if missing(Need.NAMESPACES):  # then with the machine's own users
                inside = [
                    "dbus-daemon",
                    f"--config-file={directory}/bus.conf",
                    "--nofork",
                    "--nopidfile",
                    "--print-address=1",
                ]
        else:
            require(Need.NAMESPACES, Need.USERS)
            spaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            inside = ["unshare", *spaces, sys.executable, "-I", "-c", _IN_BROKER, str(directory)]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *inside], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, f"{kind} did not start"
        _wait_for(directory / "bus")
        yield Bus(address, directory, process)
    finally:
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        shutil.rmtree(directory)


def _require_user(uid: int) -> None:
    """To be this user, whom a bus may know only by the /etc/passwd of its own."""
    require(Need.USERS)
    if uid in (SERVICE_UID, *STRANGERS):
        require(Need.NAMESPACES)


def _wait_for(path: Path) -> None:
    """Until somebody answers there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            try:
                sock.connect(str(path))
                sock.sendall(b"\0AUTH\r\n")
                assert sock.recv(64)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


class RawClient:
    """A client that speaks to the bus as it likes: pipelined, unread, damaged."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.name = ""
        self.replies: dict[int, tuple[Header, list[Any]]] = {}
        self.signals: list[tuple[Header, list[Any]]] = []
        self._in = bytearray()
        self._serial = 0

    @classmethod
    async def open(cls, address: str, *, uid: int = ROOT) -> Self:
        """Connect as `uid`; close it with `close` or as a context manager."""
        path = address.partition("path=")[2].partition(",")[0]
        loop = asyncio.get_running_loop()
        client = cls(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        try:
            if uid != ROOT:
                _require_user(uid)
            os.seteuid(uid)  # the kernel tells the bus who connected
            try:
                client.sock.connect(path)
                client.sock.send(b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n")
            finally:
                os.seteuid(ROOT)
            async with asyncio.timeout(PATIENCE):
                assert (await loop.sock_recv(client.sock, 4096)).startswith(b"OK ")
                await loop.sock_sendall(client.sock, b"BEGIN\r\n")
                client.name = (await client.ask("/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"))[1][0]
        except BaseException:
            client.sock.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def frame(self, path: str, interface: str, member: str, signature: str = "", *args: Any, **fields: Any) -> bytes:
        """The octets of a call; its serial is the last one given. The bus itself is called by its interface's name."""
        self._serial += 1
        fields.setdefault("destination", "org.freedesktop.DBus" if path == "/org/freedesktop/DBus" else "")
        if signature and "body" not in fields:
            fields["body"] = wire.encode(signature, list(args))
        kind = fields.pop("kind", wire.CALL)
        return frame(kind, self._serial, path=path, interface=interface, member=member, signature=signature, **fields)

    async def send(self, octets: bytes) -> int:
        """Send these; the serial of the last call framed."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, octets)
        return self._serial

    async def call(self, *args: Any, **fields: Any) -> int:
        """Send a call; its serial."""
        return await self.send(self.frame(*args, **fields))

    async def ask(self, *args: Any, **fields: Any) -> tuple[Header, list[Any]]:
        """Call and wait for the reply."""
        return await self.reply(await self.call(*args, **fields))

    async def reply(self, serial: int) -> tuple[Header, list[Any]]:
        """Wait for the reply to a call. Signals that come before it are kept."""
        async with asyncio.timeout(PATIENCE):
            while serial not in self.replies:
                await self.read()
        return self.replies.pop(serial)

    async def signal(self, member: str) -> tuple[Header, list[Any]]:
        """Wait for a signal of this name, and leave out those before it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self.signals:
                    found = self.signals.pop(0)
                    if found[0].member == member:
                        return found
                await self.read()

    async def read(self) -> None:
        """Take in one message at least."""
        taken = False
        while not taken:
            got = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
            if not got:
                raise EOFError("the bus closed the connection")
            self._in += got
            while len(self._in) >= wire.FIXED:
                header, body = wire.sizes(self._in)
                if len(self._in) < header + body:
                    break
                head = wire.parse(bytes(self._in[:header]))
                octets = bytes(self._in[header : header + body])
                del self._in[: header + body]
                values = wire.decode(head.signature, octets, little=head.little) if head.signature else []
                if head.kind == wire.SIGNAL:
                    self.signals.append((head, values))
                else:
                    self.replies[head.reply_serial] = head, values
                taken = True
