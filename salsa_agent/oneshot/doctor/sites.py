"""Tables of the configuration that can never hold (rules C10, C11)."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network

from salsa_agent.core.settings import Site
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean

_NAMES_NO_PATTERN = frozenset("*?[")


def findings(scene: Scene) -> Iterator[Finding]:
    """Sites with a criterion that nothing meets, and those behind one that holds whenever they do."""
    sites = scene.settings.sites
    for place, site in enumerate(sites):
        why = _impossible(scene, site)
        if why:
            yield _finding(site, f"can never hold: {why}", "Correct the criterion, or remove the table.")
            continue
        before = next((one for one in sites[:place] if _covers(one, site)), None)
        if before is not None:
            yield _finding(
                site,
                f'can never hold: site "{clean(before.name)}" stands before it and holds whenever it does',
                "Put the narrower table first.",
            )


def _finding(site: Site, problem: str, cure: str) -> Finding:
    return Finding(Severity.WARNING, "site-never-holds", f'Site "{clean(site.name)}" {problem}.', cure)


def _impossible(scene: Scene, site: Site) -> str:
    if site.prefix and all(_never_counts(prefix) for prefix in site.prefix):
        return f"no address in {site.prefix[0]} counts (rule A2)"
    ignored = scene.settings.network.ignore
    if site.interface and all(
        name == "lo" or (not _NAMES_NO_PATTERN & set(name) and any(fnmatchcase(name, one) for one in ignored))
        for name in site.interface
    ):
        return f"network.ignore leaves out the link {clean(site.interface[0])}"
    if site.connection and not scene.networkmanager:
        return "it asks for a NetworkManager connection, and NetworkManager does not run on this host"
    return ""


def _never_counts(prefix: IPv4Network | IPv6Network) -> bool:
    return prefix.is_loopback or prefix.is_link_local or prefix.is_multicast or str(prefix) in ("0.0.0.0/32", "::/128")


def _covers(wide: Site, narrow: Site) -> bool:
    """Whether `wide` holds wherever `narrow` does, as far as that can be read from their criteria."""
    if wide.prefix and not (narrow.prefix and all(_within(one, wide.prefix) for one in narrow.prefix)):
        return False
    lists = ((wide.interface, narrow.interface), (wide.domain, narrow.domain), (wide.connection, narrow.connection))
    return all(not given or (bool(asked) and set(asked) <= set(given)) for given, asked in lists)


def _within(prefix: IPv4Network | IPv6Network, among: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    for one in among:
        if isinstance(prefix, IPv4Network) and isinstance(one, IPv4Network) and prefix.subnet_of(one):
            return True
        if isinstance(prefix, IPv6Network) and isinstance(one, IPv6Network) and prefix.subnet_of(one):
            return True
    return False
