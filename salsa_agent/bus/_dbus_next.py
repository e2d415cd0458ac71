"""Every name of dbus-next that the agent uses. Only this module imports it.

Its message bus is not used (docs/decisions/own-dbus-transport.md). What comes from `_private` is held to what is
expected of it by tests/parts/bus/test_codec.py and test_connection.py, and the version is pinned.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # dbus_next.service, which is not used here, takes typing.no_type_check_decorator; from Python 3.13 on that warns
    warnings.filterwarnings("ignore", "'typing.no_type_check_decorator' is deprecated", DeprecationWarning)
    from dbus_next import AuthError, InvalidAddressError, Message, MessageFlag, MessageType, SignatureTree, Variant
    from dbus_next._private.address import parse_address
    from dbus_next._private.constants import BIG_ENDIAN, LITTLE_ENDIAN
    from dbus_next._private.marshaller import Marshaller
    from dbus_next._private.unmarshaller import MarshallerStreamEndError, Unmarshaller

__all__ = [
    "BIG_ENDIAN",
    "LITTLE_ENDIAN",
    "AuthError",
    "InvalidAddressError",
    "Marshaller",
    "MarshallerStreamEndError",
    "Message",
    "MessageFlag",
    "MessageType",
    "SignatureTree",
    "Unmarshaller",
    "Variant",
    "parse_address",
]
