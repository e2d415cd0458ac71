"""pyroute2 without its `__init__`: what the netlink driver leans on, so that a new release cannot move it unseen."""

from __future__ import annotations

import subprocess
import sys

from salsa_agent.netlink._pyroute2 import NLM_F_DUMP, NLM_F_REQUEST, fibmsg, ifaddrmsg, rtmsg, rtnl

# what the codec needs of the library, and no more: each of these is small
CODEC = {
    "pyroute2.common",
    "pyroute2.netlink",
    "pyroute2.netlink.exceptions",
    "pyroute2.netlink.rtnl",
    "pyroute2.netlink.rtnl.fibmsg",
    "pyroute2.netlink.rtnl.ifaddrmsg",
    "pyroute2.netlink.rtnl.rtmsg",
}


def python(program: str) -> str:
    """What a new interpreter prints that runs this."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_the_codec_is_imported() -> None:
    """The bare package is seen by these modules alone: the import system tells of each that it is asked for."""
    seen = python("""
import sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("pyroute2."):
            print(name)
sys.meta_path.insert(0, Spy())
import salsa_agent.netlink._pyroute2
""")
    assert set(seen.split()) == CODEC


def test_nothing_of_it_stays_imported() -> None:
    left = python("""
import sys, salsa_agent.netlink.monitor
print(*[name for name in sys.modules if name.partition(".")[0] == "pyroute2"])
""")
    assert not left.split()


def test_a_plain_import_gives_the_whole_library_afterwards() -> None:
    said = python("""
import salsa_agent.netlink._pyroute2 as ours
import pyroute2, pyroute2.netlink.rtnl.rtmsg
print(pyroute2.netlink.rtnl.rtmsg.rtmsg is not ours.rtmsg, pyroute2.__file__.endswith("__init__.py"))
with pyroute2.IPRoute() as route:
    print(route.get_links()[0].get("IFLA_IFNAME"))
""")
    assert said.split() == ["True", "True", "lo"]


def test_a_library_that_is_imported_already_is_used_as_it_is() -> None:
    said = python("""
import pyroute2, pyroute2.netlink.rtnl.rtmsg
import salsa_agent.netlink._pyroute2 as ours
import sys
print(pyroute2.netlink.rtnl.rtmsg.rtmsg is ours.rtmsg, sys.modules["pyroute2"] is pyroute2)
""")
    assert said.split() == ["True", "True"]


def test_requests_are_what_the_kernel_reads() -> None:
    """As `struct nlmsghdr`, the message's own struct, and its attributes lie in linux/netlink.h and rtnetlink.h."""
    request = rtmsg()
    request["header"]["type"], request["header"]["flags"] = rtnl.RTM_GETROUTE, NLM_F_REQUEST
    request["family"], request["dst_len"], request["attrs"] = 2, 32, [("RTA_DST", "198.41.0.4")]
    request.encode()
    assert request.data.hex() == "240000001a00010000000000000000000220000000000000000000000800" + "0100c6290004"
    for codec, kind, size in ((ifaddrmsg, 22, 24), (fibmsg, 34, 28)):
        request = codec()
        request["header"]["type"], request["header"]["flags"] = kind, NLM_F_REQUEST | NLM_F_DUMP
        request.encode()
        assert bytes(request.data[:8]) == bytes([size, 0, 0, 0, kind, 0, 1, 3])
        assert not any(request.data[8:])


def test_routes_are_decoded_with_what_nests_in_them() -> None:
    route = rtmsg()
    hops = [{"oif": 2, "attrs": [("RTA_GATEWAY", "192.0.2.1")]}, {"oif": 3, "attrs": [("RTA_GATEWAY", "192.0.2.2")]}]
    route["family"], route["attrs"] = 2, [("RTA_PRIORITY", 7), ("RTA_MULTIPATH", hops)]
    route.encode()
    read = rtmsg(bytes(route.data))
    read.decode()
    assert read.get("RTA_PRIORITY") == 7
    assert [(hop["oif"], hop.get("RTA_GATEWAY")) for hop in read.get("RTA_MULTIPATH")] == [
        (2, "192.0.2.1"),
        (3, "192.0.2.2"),
    ]
