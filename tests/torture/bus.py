"""A bus that stops, dies or changes its mind, and peers on it that do not behave."""

from __future__ import annotations

import os
import shutil
import struct
import time
from contextlib import suppress

from salsa_agent.bus import message as wire
from tests.lab.bus import NOBODY, POLICY, RawClient
from tests.lab.messages import frame
from tests.lab.whole import INTERFACE, NAME, NET24, NOC, PATH, VERTEX
from tests.torture.trial import CONFIG, ROUND, ZONE, A, Broken, Trial, fault, in_loop

DBUS, DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"


@fault("bus", "it stands still for ten seconds, and the host roams meanwhile", alone=True)
def stopped(trial: Trial) -> None:
    trial.start()
    trial.world.bus.stop()
    try:
        trial.roam(A)
        time.sleep(trial.seconds(10))
    finally:
        trial.world.bus.resume()
    trial.expect(NOC, max(0.5, ROUND - trial.seconds(10)), "ready")


@fault("bus", "it is killed", alone=True)
def killed(trial: Trial) -> None:
    trial.start()
    trial.roam(A)
    trial.expect(NOC, ROUND, "ready")
    trial.world.bus.kill()
    trial.ended(69, "lost", 1.0)


@fault("bus", "it is killed while the agent asks for the name", alone=True)
def killed_early(trial: Trial) -> None:
    trial.roam(A)
    trial.agent = trial.world.agent(CONFIG, "--bus", "system")
    time.sleep(0.3)
    trial.world.bus.kill()
    trial.ended(69, "bus", 15.0)


@fault("bus", "its policy shuts everybody out, and lets them in again", alone=True)
def policy(trial: Trial) -> None:
    trial.start()
    directory = trial.world.bus.directory / "policy"
    (directory / POLICY.name).write_text(
        "<busconfig><policy context='mandatory'>"
        f"<deny send_destination='{NAME}'/><deny own='{NAME}'/></policy></busconfig>"
    )
    _reload(trial)
    if "not allowed" not in (said := trial.world.call("Refresh", check=False)).lower() and "denied" not in said.lower():
        raise Broken(f"the policy had no effect: {said}")
    trial.roam(A)
    second = trial.world.agent(CONFIG, "--bus", "system")
    if (status := second.popen.wait(30)) != 69 or "refuses the name" not in second.log:
        raise Broken(f"a refused name is status {status}: {second.log}")
    shutil.copy(POLICY, directory)
    _reload(trial)
    trial.expect(NOC, ROUND, "ready")


def _reload(trial: Trial) -> None:
    trial.world.busctl("call", DBUS, DBUS_PATH, DBUS, "ReloadConfig")


@fault("bus", "another one wants the name, and says that it was lost")
def stolen(trial: Trial) -> None:
    trial.start()

    async def steal() -> None:
        with await RawClient.open(trial.world.bus.address) as thief:
            agent = (await thief.ask(DBUS_PATH, DBUS, "GetNameOwner", "s", NAME))[1][0]
            _, body = await thief.ask(DBUS_PATH, DBUS, "RequestName", "su", NAME, 1 | 2 | 4)
            if body != [3]:  # DBUS_REQUEST_NAME_REPLY_EXISTS
                raise Broken(f"the name could be taken: {body}")
            await thief.call(DBUS_PATH, DBUS, "NameLost", "s", NAME, kind=wire.SIGNAL, destination=agent)
            await thief.call(
                "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", False,
                kind=wire.SIGNAL, destination=agent,
            )  # fmt: skip

    in_loop(steal)
    trial.roam(A)
    trial.expect(NOC, ROUND, "ready")
    if "suspend" in trial.agent.log:
        raise Broken("anybody may say that the machine slept")


@fault("bus", "thirty followers that never read, and two hundred changes")
def deaf(trial: Trial) -> None:
    trial.start()

    async def deafness() -> None:
        clients = [await RawClient.open(trial.world.bus.address) for _ in range(30)]
        try:
            for client in clients:
                match = f"type='signal',path='{PATH}'"
                await client.ask(DBUS_PATH, DBUS, "AddMatch", "s", match)
                ask = [client.frame(PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", INTERFACE, destination=NAME)
                       for _ in range(100)]  # fmt: skip
                await client.send(b"".join(ask))
            trial.roam_about(100)
        finally:
            for client in clients:
                client.sock.close()

    in_loop(deafness)


@fault("bus", "calls with bodies and signatures that lie, and of a megabyte")
def malformed(trial: Trial) -> None:
    trial.start()

    async def throw() -> None:
        for octets in _bad_calls():
            with await RawClient.open(trial.world.bus.address, uid=NOBODY) as client:
                with suppress(OSError):
                    await client.send(octets)
                with suppress(EOFError, OSError):
                    await client.ask(DBUS_PATH, DBUS, "GetId")

    in_loop(throw)
    trial.world.publish(ZONE | {NET24: {"MX": [f"5 {VERTEX}."]}})
    trial.roam(A)
    trial.expect(VERTEX, ROUND, "ready")


def _bad_calls() -> list[bytes]:
    """Calls that are not as they must be; the bus passes on some of them."""

    def call(member: str, signature: str, body: bytes, **fields: object) -> bytes:
        where: dict[str, object] = {"path": PATH, "interface": INTERFACE, "destination": NAME} | fields
        return frame(wire.CALL, 77, member=member, signature=signature, body=body, **where)  # type: ignore[arg-type]

    text = wire.encode("s", ["x" * (1 << 20)])
    calls = [
        call("Lookup", "s", text),
        call("Lookup", "s", wire.encode("s", ["x" * (1 << 24)])),
        call("Lookup", "u", struct.pack("<I", 7)),
        call("Lookup", "", b""),
        call("Lookup", "ss", wire.encode("ss", ["192.0.2.1", ""])),
        call("Lookup", "s", struct.pack("<I", 0xFFFFFFFF) + b"x\0"),
        call("Lookup", "v", wire.encode("g", ["v" * 100]) + b"\1v\0" * 70),
        call("ReportFailure", "sqs", wire.encode("sqs", ["\x1b[31m\n", 0, "\u202e\n\x00"[:2]])),
        call("SetLinkRelays", "ias", wire.encode("ias", [1, ["x" * 1000] * 1000])),
        call("Refresh", "a" * 40 + "y", b"\0\0\0\0"),
        call("Get", "ss", wire.encode("ss", ["x" * 255, "y" * 100_000]), interface="org.freedesktop.DBus.Properties"),
        call("Set", "ssv", b"\xff" * 64, interface="org.freedesktop.DBus.Properties"),
        call("No.Such\nMember", "", b""),
        call("Refresh", "", b"", interface=""),
        call("Refresh", "", b"", path="/" + "a/" * 5000 + "b"),
        os.urandom(64),
        b"l\1\0\1" + b"\xff" * 60,
    ]
    return [*calls, b"".join(call("Lookup", "s", wire.encode("s", ["not an address"])) for _ in range(300))]


@fault("bus", "a flood of signals sent to the agent")
def signals(trial: Trial) -> None:
    trial.start()

    async def flood() -> None:
        with await RawClient.open(trial.world.bus.address, uid=NOBODY) as client:
            _, owner = await client.ask(DBUS_PATH, DBUS, "GetNameOwner", "s", NAME)
            one = client.frame("/a", "a.b", "C", "s", "x" * 4000, kind=wire.SIGNAL, destination=owner[0])
            for _ in range(40):
                await client.send(one * 50)
            await client.ask(DBUS_PATH, DBUS, "GetId")

    in_loop(flood)
    trial.roam(A)
    trial.expect(NOC, ROUND, "ready")
