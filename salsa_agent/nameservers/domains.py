"""Search and routing domains in one form (rule F4)."""

from __future__ import annotations

MAX_DOMAINS = 256  # of one link or one search list; as systemd-resolved bounds them (LINK_SEARCH_DOMAINS_MAX)
_MAX_LENGTH = 253  # octets of a name in presentation form (RFC 1035 section 2.3.4)


def canonical_domain(given: str) -> str:
    """Lower case, no final dot; the root domain is `.`; empty: it is no domain that could be matched or shown."""
    if given == ".":
        return given
    domain = given.removesuffix(".").lower()
    if not domain or len(domain.encode(errors="replace")) > _MAX_LENGTH or not domain.isprintable() or " " in domain:
        return ""
    return domain


def canonical_domains(given: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are domains, each once, in their order."""
    domains = (canonical_domain(domain) for domain in given[:MAX_DOMAINS])
    return tuple(dict.fromkeys(domain for domain in domains if domain))
