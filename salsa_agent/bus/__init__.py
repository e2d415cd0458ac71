"""The D-Bus side. Only this package knows the D-Bus library, and only `dbus_api` imports it."""

from __future__ import annotations

import sys
import typing

if sys.version_info >= (3, 13) or not hasattr(typing, "no_type_check_decorator"):
    # dbus-next 0.2.3 decorates with it when imported; 3.13 warns of that, 3.15 has it no more
    typing.no_type_check_decorator = lambda decorator: decorator
