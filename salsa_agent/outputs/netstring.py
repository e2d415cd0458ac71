"""Netstrings (https://cr.yp.to/proto/netstrings.txt), read from bytes as they come."""

from __future__ import annotations

_MAX_DIGITS = 10


class NetstringError(ValueError):
    """What came is no netstring, or too long a one; nothing after it can be made sense of."""


def netstring(payload: bytes) -> bytes:
    """`payload` as a netstring."""
    return b"%d:%b," % (len(payload), payload)


class NetstringReader:
    """Splits a stream into the payloads of its netstrings; `limit`: the longest payload, in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._data += data

    def next(self) -> bytes | None:
        """The next payload; None: it is not all there yet. Raises NetstringError."""
        colon = self._data.find(b":", 0, _MAX_DIGITS + 1)
        digits = self._data[:colon] if colon >= 0 else self._data[: _MAX_DIGITS + 1]
        if not digits and colon < 0:
            return None
        if not digits.isdigit() or len(digits) > _MAX_DIGITS or (digits[0] == ord("0") and len(digits) > 1):
            raise NetstringError("no length")
        if int(digits) > self._limit:
            raise NetstringError(f"longer than {self._limit} bytes")
        end = colon + 1 + int(digits)
        if colon < 0 or len(self._data) <= end:
            return None
        if self._data[end] != ord(","):
            raise NetstringError("no comma at the end")
        payload = bytes(self._data[colon + 1 : end])
        del self._data[: end + 1]
        return payload
