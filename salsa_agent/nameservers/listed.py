"""The servers and the search list of resolv.conf, as files (rule F1)."""

from __future__ import annotations

import contextlib
import errno
import socket
from ipaddress import ip_address
from typing import NamedTuple

from salsa_agent.core.model import MAX_IFINDEX, Server
from salsa_agent.nameservers import resolvconf
from salsa_agent.nameservers.resolvconf import ResolvConf
from salsa_agent.system.files import read_file, whole_lines

STUBS = ("127.0.0.53", "127.0.0.54")  # of systemd-resolved, systemd-resolved.service(8)
LOCAL_HOST = (Server("127.0.0.1"), Server("::1"))  # whom resolv.conf(5) means where it lists nobody
MAX_FILE = 1 << 16  # octets of a resolv.conf that are read
# it is no file, or not for us to read
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.EINVAL)


class Listed(NamedTuple):
    """What resolv.conf says. `search`: the domains of its last `search` or `domain` line, as written."""

    servers: tuple[Server, ...]
    search: tuple[str, ...] = ()


def read(resolv_conf: str, uplinks: str) -> Listed:
    """The servers of resolv.conf, in its order; in the place of a stub of systemd-resolved those it would ask.

    Without a server that can be asked, those of the local host. Raises OSError when the system has no means to look.
    """
    conf = _file(resolv_conf)
    found: dict[Server, None] = {}
    for server in _usable(conf):
        behind = _usable(_file(uplinks)) if server.address in STUBS else ()
        found.update((one._replace(tcp=one.tcp or server.tcp), None) for one in behind or (server,))
    servers = tuple(found) or tuple(_of_file(server, conf) for server in LOCAL_HOST)
    return Listed(servers, conf.search)


def _usable(conf: ResolvConf) -> tuple[Server, ...]:
    found = []
    for nameserver in conf.nameservers:
        ip = nameserver.ip
        ifindex = 0
        if ip.version == 6 and ip.is_link_local:
            ifindex = _ifindex(nameserver.scope)
            if not ifindex:
                continue
        found.append(_of_file(Server(str(ip), ifindex=ifindex), conf))
    return tuple(found)


def _of_file(server: Server, conf: ResolvConf) -> Server:
    """The server with the options of the file that lists it: `trust-ad` counts for the local host alone (rule F3)."""
    return server._replace(trust_ad=conf.trust_ad and ip_address(server.address).is_loopback, tcp=conf.use_vc)


def _ifindex(scope: str) -> int:
    """The index of a zone; 0: there is no such link now."""
    with contextlib.suppress(OSError, ValueError):
        return socket.if_nametoindex(scope)
    with contextlib.suppress(OSError, ValueError, OverflowError):
        number = int(scope)
        if number <= MAX_IFINDEX:  # Python before 3.13 would cut it off
            socket.if_indextoname(number)
            return number
    return 0


def _file(path: str) -> ResolvConf:
    """What a resolv.conf says; nothing, if it is no file, or not for us to read. Raises OSError for anything else."""
    try:
        content = read_file(path, MAX_FILE)
    except OSError as error:
        if error.errno in _NO_FILE:
            return ResolvConf()
        raise
    return resolvconf.parse(whole_lines(content, MAX_FILE).decode(errors="replace"))
