"""A password service for a real Postfix: the server side of Dovecot's authentication protocol (doc/auth-protocol.txt).

It takes PLAIN (RFC 4616) with one name and password, and keeps what it was sent.
"""

from __future__ import annotations

import base64
import socketserver
import threading
from pathlib import Path
from typing import Self

_GREETING = f"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t{1:032x}\nDONE\n"


class PasswordService:
    """`with` it, it listens at `path` for everybody; `sent`: the names and passwords that it was asked about."""

    def __init__(self, path: Path, name: str, password: str) -> None:
        self.path = path
        self.sent: list[tuple[str, str]] = []
        service = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(_GREETING.encode())
                for line in self.rfile:
                    command, *arguments = line.decode().rstrip("\n").split("\t")
                    if command == "AUTH":
                        response = next(one for one in arguments if one.startswith("resp="))
                        _, given, secret = base64.b64decode(response.removeprefix("resp=")).decode().split("\0")
                        service.sent.append((given, secret))
                        verdict = "OK" if (given, secret) == (name, password) else "FAIL"
                        self.wfile.write(f"{verdict}\t{arguments[0]}\tuser={given}\n".encode())

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        path.chmod(0o666)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink()
