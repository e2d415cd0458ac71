"""org.salsa.Agent1: its members and their types, once, and what `Introspect` says of them.

dbus/org.salsa.Agent1.xml documents the same for people; a test holds the two together.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

NAME = INTERFACE = "org.salsa.Agent1"
PATH = "/org/salsa/Agent1"
PARENTS = {"/": "org", "/org": "salsa", "/org/salsa": "Agent1"}  # and the child of each

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"

Args = tuple[tuple[str, str], ...]  # name and type of each


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its arguments and its results."""

    in_args: Args = ()
    out_args: Args = ()

    @property
    def signature(self) -> str:
        """Of a call."""
        return "".join(kind for _, kind in self.in_args)

    @property
    def result(self) -> str:
        """Signature of a reply."""
        return "".join(kind for _, kind in self.out_args)


METHODS = {
    "Refresh": Method(),
    "ReportFailure": Method((("host", "s"), ("port", "q"), ("reason", "s"))),
    "RelayFor": Method(
        (("sender", "s"),), (("host", "s"), ("port", "q"), ("source", "s"), ("tls", "s"), ("relays", "aa{sv}"))
    ),
    "Lookup": Method((("address", "s"),), (("relays", "aa{sv}"), ("questions", "aa{sv}"))),
    "Explain": Method((), (("explanation", "a{sv}"),)),
    "SetLinkRelays": Method((("ifindex", "i"), ("relays", "as"))),
    "RevertLink": Method((("ifindex", "i"),)),
}

PROPERTY_TYPES = {
    "BestRelay": "s",
    "BestRelayPort": "q",
    "BestRelaySource": "s",
    "BestRelayTls": "s",
    "Relays": "aa{sv}",
    "Senders": "aa{sv}",
    "Statistics": "a{st}",
    "Addresses": "aa{sv}",
    "State": "s",
    "LastChanged": "t",
    "Version": "s",
}
EMITS_CHANGED_SIGNAL = {"Version": "const", "Statistics": "false"}  # the others: true; of these no PropertiesChanged

# the keys of `Statistics`
STATISTICS = (
    "rounds", "network_changes", "questions", "questions_failed", "checks", "checks_failed", "best_changes", "reports",
    "started",
)  # fmt: skip

SIGNALS = {"BestRelayChanged": (("host", "s"), ("port", "q"), ("source", "s"))}

STANDARD = {
    PEER: {"Ping": Method(), "GetMachineId": Method((), (("machine_uuid", "s"),))},
    INTROSPECTABLE: {"Introspect": Method((), (("xml_data", "s"),))},
    PROPERTIES: {
        "Get": Method((("interface_name", "s"), ("property_name", "s")), (("value", "v"),)),
        "GetAll": Method((("interface_name", "s"),), (("properties", "a{sv}"),)),
        "Set": Method((("interface_name", "s"), ("property_name", "s"), ("value", "v"))),
    },
}
_PROPERTIES_CHANGED = (
    ("interface_name", "s"), ("changed_properties", "a{sv}"), ("invalidated_properties", "as"),
)  # fmt: skip

# a call need not name an interface; the member names of all interfaces of the object differ
INTERFACE_OF_MEMBER = {member: interface for interface, methods in STANDARD.items() for member in methods}
INTERFACE_OF_MEMBER |= dict.fromkeys(METHODS, INTERFACE)

_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


@functools.cache
def introspection(path: str) -> str:
    """What `Introspect` says of the object at PATH, or of one of its PARENTS."""
    lines = ["<node>"]
    for interface in (PEER, INTROSPECTABLE) if path in PARENTS else STANDARD:
        lines.append(f' <interface name="{interface}">')
        lines += _methods(STANDARD[interface])
        if interface == PROPERTIES:
            lines += _signal("PropertiesChanged", _PROPERTIES_CHANGED)
        lines.append(" </interface>")
    if path in PARENTS:
        lines.append(f' <node name="{PARENTS[path]}"/>')
    else:
        lines.append(f' <interface name="{INTERFACE}">')
        lines += _methods(METHODS)
        for name, args in SIGNALS.items():
            lines += _signal(name, args)
        for name, kind in PROPERTY_TYPES.items():
            emits = EMITS_CHANGED_SIGNAL.get(name, "true")
            lines += [
                f'  <property name="{name}" type="{kind}" access="read">',
                f'   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="{emits}"/>',
                "  </property>",
            ]
        lines.append(" </interface>")
    return _DOCTYPE + "\n".join([*lines, "</node>"]) + "\n"


def _methods(methods: dict[str, Method]) -> list[str]:
    lines = []
    for name, method in methods.items():
        lines.append(f'  <method name="{name}">')
        lines += [f'   <arg name="{arg}" type="{kind}" direction="in"/>' for arg, kind in method.in_args]
        lines += [f'   <arg name="{arg}" type="{kind}" direction="out"/>' for arg, kind in method.out_args]
        lines.append("  </method>")
    return lines


def _signal(name: str, args: Args) -> list[str]:
    return [
        f'  <signal name="{name}">', *(f'   <arg name="{arg}" type="{kind}"/>' for arg, kind in args), "  </signal>",
    ]  # fmt: skip
