"""The D-Bus side. Only this package knows the D-Bus library, and only `_dbus_next` imports it."""
