"""Every name of the D-Bus library that the agent uses. Only this module imports it.

The library is dbus-next, which pyproject.toml names; where that is not installed, it is dbus-fast, its descendant.
Of its inside there is one name, `parse_address`; tests/parts/bus/test_connection.py holds it to what is expected of it.
"""

from __future__ import annotations

try:
    from dbus_next import AuthError, InvalidAddressError, Message, MessageFlag, MessageType, SignatureTree
    from dbus_next._private.address import parse_address
except ModuleNotFoundError:
    from dbus_fast import AuthError, InvalidAddressError, Message, MessageFlag, MessageType, SignatureTree
    from dbus_fast._private.address import parse_address

__all__ = [
    "AuthError",
    "InvalidAddressError",
    "Message",
    "MessageFlag",
    "MessageType",
    "SignatureTree",
    "parse_address",
]
