"""Whether the mail programs of this host ask the agent, and ask where it listens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from salsa_agent.oneshot.doctor.files import read
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean

# program, its configuration, and what shows that it follows the agent
_PROGRAMS = (
    ("msmtp", ("etc/msmtprc",)),
    ("Exim", ("etc/exim4/exim4.conf.template", "etc/exim4/exim4.conf", "etc/exim/exim.conf")),
    ("nullmailer", ("etc/nullmailer/remotes",)),
)
_FOLLOWS = re.compile(r"salsa")
_FILES = re.compile(r"(/[\w./-]*salsa[\w./-]*/(?:relay\.env|relay\.json|relays|relay))\b")
_SOCKETMAP = re.compile(r"socketmap:((?:inet:[^\s,:]+|inet:\[[^\]]+\]):[0-9]+|unix:/[^\s,:]+):(?:relay|transport)")


def findings(scene: Scene) -> Iterator[Finding]:
    """Postfix, msmtp, Exim and nullmailer, installed but not asking; and those that ask elsewhere."""
    yield from _postfix(scene)
    for program, files in _PROGRAMS:
        texts = [text for file in files if (text := read(scene.root / file))]
        text = "\n".join(texts)
        follows = _FOLLOWS.search(text)
        if follows and (file := _missing(scene, text)):
            yield Finding(
                Severity.FAULT,
                "program-asks-elsewhere",
                f"{program} reads {clean(file)}, which the agent does not keep.",
                "Have output.directory of the agent's configuration name that directory (the unit sets it to "
                f"/run/salsa-agent), or correct the configuration of {program}.",
            )
        elif texts and not follows:
            yield Finding(
                Severity.NOTE,
                "program-not-asking",
                f"{program} is installed on this host and does not ask the agent: it keeps its own relay.",
                f"docs/consumers.md has a recipe for {program}.",
            )


def _postfix(scene: Scene) -> Iterator[Finding]:
    text = read(scene.root / "etc/postfix/main.cf")
    if not text:
        return
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    asked = _SOCKETMAP.findall(text)
    if not asked:
        if not _FOLLOWS.search(text):
            yield Finding(
                Severity.NOTE,
                "program-not-asking",
                "Postfix is installed on this host and does not ask the agent: it keeps its own relay.",
                "Set postfix.listen in the agent's configuration, and sender_dependent_relayhost_maps = "
                "socketmap:inet:127.0.0.1:8462:relay in main.cf.",
            )
        return
    listening = {_path(str(endpoint)) for endpoint in scene.settings.postfix_listen}
    for endpoint in dict.fromkeys(asked):
        if _path(endpoint.replace("inet:localhost:", "inet:127.0.0.1:")) not in listening:
            yield Finding(
                Severity.FAULT,
                "postfix-asks-elsewhere",
                f"Postfix asks a socketmap at {clean(endpoint)}, where the agent does not listen: mail is deferred.",
                f'Put "{clean(endpoint)}" into postfix.listen of the agent\'s configuration, or correct main.cf.',
            )


def _missing(scene: Scene, text: str) -> str:
    """The first of the agent's files that is named and is not there, though an agent runs on the system bus."""
    if "system" not in scene.agents.on:
        return ""
    return next((file for file in _FILES.findall(text) if not (scene.root / file.lstrip("/")).exists()), "")


def _path(endpoint: str) -> str:
    """A socket below Postfix's queue directory is named by Postfix from inside it, where it is chrooted."""
    return endpoint.replace("unix:/var/spool/postfix/", "unix:/")
