"""Every name of the D-Bus library that the agent uses, so that another of the same interface (dbus-fast) can stand in.

The names that are private to the library stand below its public ones; tests/test_bus_guards.py holds them to what the
guards expect of them.
"""

from __future__ import annotations

from dbus_next import DBusError, InvalidAddressError, Message, MessageFlag, MessageType, Variant
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio import MessageBus
from dbus_next.auth import AuthExternal
from dbus_next.errors import AuthError
from dbus_next.signature import SignatureTree

__all__ = [
    "AuthError",
    "AuthExternal",
    "DBusError",
    "InvalidAddressError",
    "Message",
    "MessageBus",
    "MessageFlag",
    "MessageType",
    "SignatureTree",
    "Unmarshaller",
    "Variant",
]
