"""A machine that is short of something, whose clock jumps, or that stops the agent or kills it."""

from __future__ import annotations

import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.whole import HOME, NOC, descriptors, until
from tests.torture.trial import CONFIG, ELSEWHERE, RETRIES, ROUND, A, B, Broken, Trial, fault

AGAIN = 10.0  # seconds until a file that could not be written is tried again
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@fault("machine", "no descriptors left, and the host roams")
def descriptors_gone(trial: Trial) -> None:
    trial.start()
    before = resource.prlimit(trial.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(trial.pid, resource.RLIMIT_NOFILE, (descriptors(trial.pid), before[1]))
    try:
        trial.roam(A)
        trial.expect(HOME, ROUND, "degraded")
    finally:
        resource.prlimit(trial.pid, resource.RLIMIT_NOFILE, before)
    trial.expect(NOC, RETRIES[1] + ROUND, "ready")


@fault("machine", "descriptors for only one question at a time")
def descriptors_scarce(trial: Trial) -> None:
    trial.start()
    before = resource.prlimit(trial.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(trial.pid, resource.RLIMIT_NOFILE, (descriptors(trial.pid) + 1, before[1]))
    try:
        trial.roam(A)
        time.sleep(trial.seconds(2))
    finally:
        resource.prlimit(trial.pid, resource.RLIMIT_NOFILE, before)
    trial.expect(NOC, sum(RETRIES) + ROUND, "ready")


@fault("machine", "started with as few descriptors as it can have")
def descriptors_at_start(trial: Trial) -> None:
    """It either runs, or ends with one clear line; never a traceback."""
    trial.roam(A)
    trial.world.configure(CONFIG)
    started = {
        limit: trial.world.start(
            trial.world.host, ["prlimit", f"--nofile={limit}:{limit}", "--", *_command(trial), "--bus", "system"]
        )
        for limit in range(5, 25, 1 if trial.scale == 1 else 4)  # with four Python itself cannot start
    }
    time.sleep(5)
    said = []
    for limit, process in started.items():
        status = process.popen.poll()
        if status is None:
            status = process.end()
        if status not in (0, 69) or "Traceback" in process.log:
            said.append(f"{limit}: status {status}: {process.log.strip().splitlines()[-1:]}")
    trial.start()
    if said:
        raise Broken("; ".join(said)[:600])


@contextmanager
def _disk(trial: Trial) -> Iterator[Path]:
    """A small disk of its own."""
    where = trial.world.directory / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)
        where.rmdir()


@fault("machine", "the disk is full, and the relay changes")
def full(trial: Trial) -> None:
    with _disk(trial) as disk:
        out = disk / "out"
        out.mkdir()
        trial.start(config=f'output.directory = "{out}"\n{CONFIG}')
        _file(out, ELSEWHERE)
        with (disk / "fat").open("wb", buffering=0) as fat:
            try:
                while True:
                    fat.write(b"\0" * 512)
            except OSError:
                pass
        trial.roam(A)
        trial.expect(NOC, ROUND, "ready")
        said = (out / "relay").read_text() if (out / "relay").exists() else ""
        if said not in ("", f"{NOC}:25\n"):
            raise Broken(f"the file lies: {said}")
        (disk / "fat").unlink()
        _file(out, NOC)
        _end(trial)
        if list(out.iterdir()):
            raise Broken("a file is left")


@fault("machine", "the output directory is gone, and comes back")
def directory_gone(trial: Trial) -> None:
    out = trial.world.directory / "out"
    out.mkdir()
    try:
        trial.start(config=f'output.directory = "{out}"\n{CONFIG}')
        _file(out, ELSEWHERE)
        shutil.rmtree(out)
        trial.roam(A)
        trial.expect(NOC, ROUND, "ready")
        out.mkdir()
        _file(out, NOC)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _file(directory: Path, relay: str) -> None:
    """The file says so within the time of another try."""

    def content() -> str:
        try:
            return (directory / "relay").read_text()
        except FileNotFoundError:
            return ""

    until(content, lambda text: text == f"{relay}:25\n", patience=AGAIN + 20)


@fault("machine", "the wall clock is set ten years ahead, and twenty back")
def clock_stepped(trial: Trial) -> None:
    """By libfaketime, in the agent's own process; its other clocks go on, as they do when a clock is set."""
    if not FAKETIME.exists():
        trial.note("not done: libfaketime is not installed")
        return
    setting = trial.world.directory / "faketime"
    setting.write_text("+0")
    trial.start(
        LD_PRELOAD=str(FAKETIME), FAKETIME_TIMESTAMP_FILE=str(setting), FAKETIME_NO_CACHE="1",
        DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    expected = 0.0
    for step, (address, relay) in {"+10y": (A, NOC), "-10y": (B, ELSEWHERE), "+0": (A, NOC)}.items():
        setting.write_text(step)
        rounds = trial.agent.log.count("round (")
        time.sleep(trial.seconds(2))
        if trial.agent.log.count("round (") != rounds:
            raise Broken("the clock alone starts rounds")
        trial.roam(address)
        trial.expect(relay, ROUND, "ready")
        expected = time.time() + int(step.rstrip("y")) * 365 * 86400
        if abs(trial.world.get("LastChanged") / 1e6 - expected) > 86400:
            raise Broken("LastChanged does not follow the wall clock")


@fault("machine", "SIGSTOP for a minute, and the host roams meanwhile")
def paused(trial: Trial) -> None:
    trial.start()
    with trial.frozen():
        trial.roam(A)
        time.sleep(trial.seconds(60))
    trial.expect(NOC, ROUND, "ready")


@fault("machine", "SIGSTOP in mid-round, until all its time is over")
def paused_in_round(trial: Trial) -> None:
    trial.start()
    trial.world.far.run(["true"])
    trial.roam(A)
    with trial.frozen():
        time.sleep(2 * ROUND * min(1.0, trial.scale * 4))
    trial.expect(NOC, RETRIES[1] + ROUND, "ready")


@fault("machine", "SIGTERM, SIGINT and SIGHUP over and over until it ends")
def impatient(trial: Trial) -> None:
    """Also when its event loop is closed already, and with it the loop's handlers."""
    trial.start()
    trial.ends = True
    process = trial.agent.popen
    while process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        time.sleep(0.001)
    trial.ended(0, "", 1.0)


@fault("machine", "SIGKILL at a random moment and a new start, twenty times")
def killed(trial: Trial) -> None:
    """Nothing of an earlier run is taken for the truth, nothing stands in a new one's way."""
    out = trial.world.directory / "out"
    out.mkdir()
    config = f'output.directory = "{out}"\npostfix.listen = ["unix:{out}/postfix"]\n{CONFIG}'
    try:
        trial.roam(B)
        for number in range(int(trial.seconds(20))):
            agent = trial.world.agent(config)
            time.sleep(random.uniform(0, 2.5))
            agent.end(signal.SIGKILL)
            trial.roam(A if number % 2 else B)
            if "Traceback" in agent.log:
                raise Broken(agent.log[-300:])
        trial.start(config=config)
        trial.roam(A)
        trial.expect(NOC, ROUND, "ready")
        _file(out, NOC)
        _end(trial)
        if left := list(out.iterdir()):
            raise Broken(f"left behind: {left}")
    finally:
        shutil.rmtree(out, ignore_errors=True)


@fault("machine", "standard error that nobody reads")
def deaf_log(trial: Trial) -> None:
    """A full pipe costs log lines, never the agent (a hundred questions a round are logged at debug)."""
    trial.roam(B)
    trial.world.configure(CONFIG)
    script = 'exec 3>&2; { exec 3>&-; "$@" 2>&1 >/dev/null; } | sleep 60'
    process = trial.world.host.exec(["sh", "-c", script, "sh", *_command(trial), "--log-level", "debug"],
                                    env={**trial.world.bus.environment, "PYTHONPATH": str(Path.cwd())})  # fmt: skip
    try:
        trial.world.wait_for_best(ELSEWHERE)
        trial.roam_about(60)
    finally:
        owner = trial.world.busctl("status", "org.salsa.Agent1")
        pid = re.search(r"^PID=(\d+)", owner, re.MULTILINE)
        if pid:
            subprocess.run(["kill", "-KILL", pid[1]], check=False)
        process.kill()
        process.wait()
    trial.start()


def _command(trial: Trial) -> list[str]:
    return [sys.executable, "-m", "salsa_agent.cli.agent", "--config", str(trial.world.config)]


def _end(trial: Trial) -> None:
    """End the agent as a service manager does."""
    trial.judge()
    trial.ends = True
    if (status := trial.agent.end()) != 0:
        raise Broken(f"status {status} at the end")
