"""Answers Postfix: the relays to use, as the maps of a socketmap server (socketmap_table(5))."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from salsa_agent.core.model import Publication
from salsa_agent.core.settings import Endpoint, Settings, UnixEndpoint
from salsa_agent.outputs.answers import Answers
from salsa_agent.outputs.listening import identity, listening_socket, user_of
from salsa_agent.outputs.socketmap_client import Client, read

MAX_CLIENTS = 64  # connections
IDLE = 120.0  # seconds without a query until a connection is ended; Postfix ends its own after 10, or 100
ACCEPT_AGAIN = 1.0  # seconds, when there are no descriptors for one more connection
ACCEPT_AT_ONCE = 128  # connections, in one turn of the event loop

log = logging.getLogger("salsa-agent")


class Socketmap:
    """Serves the maps of `Answers` at the endpoints of `postfix.listen`.

    No connection, and at a `unix:` endpoint no user, can keep another from its answers (see `Client`, `join`).
    """

    def __init__(self) -> None:
        self.answers = Answers()
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self._of_users: Counter[int] = Counter()  # how many each user has of them
        self._publication: Publication | None = None
        self._verified = Settings().verify.enabled
        self._listeners: dict[Endpoint, _Listener] = {}
        self._idle: asyncio.TimerHandle | None = None

    def configure(self, settings: Settings) -> None:
        """Use these settings from now on; endpoints as `listen` has it. To be called in the loop."""
        self._verified = settings.verify.enabled
        self.answers = Answers(self._publication, verified=self._verified)
        self.listen(settings.postfix_listen)

    def publish(self, publication: Publication) -> None:
        """Answer by this from now on. Until the first one every answer is TEMP."""
        self._publication = publication
        self.answers = Answers(publication, verified=self._verified)

    def listen(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen at these endpoints and at no others. One that cannot be had is logged; the next call tries it again.

        To be called in the loop.
        """
        wanted = dict.fromkeys(endpoints)
        for endpoint in self._listeners.keys() - wanted:
            self._listeners.pop(endpoint).close()
        for endpoint in wanted:
            if endpoint not in self._listeners:
                try:
                    self._listeners[endpoint] = _Listener(endpoint, self)
                except OSError as error:
                    reason = os.strerror(error.errno) if error.errno else error.strerror
                    log.error("postfix.listen: %s: %s", endpoint, reason)
                else:
                    log.info("answering Postfix at %s", endpoint)

    def reply(self, query: bytes) -> bytes:
        """The answer to one query, by what is published now."""
        return self.answers.reply(query)

    async def close(self) -> None:
        """Listen no more and end all connections, Postfix's too: it holds them open while it is idle."""
        self.listen(())
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def join(self, client: Client, came: bytes) -> None:
        """Serve one more client, of which this has come already.

        If there are too many, one of the user that holds most has to go, at once: the one that never asked, or else the
        one that last asked, the longest time ago; not the new one, which had no time to ask.
        """
        if len(self.clients) >= MAX_CLIENTS:
            self._surplus(client.user).end()
        self.clients[client] = None
        self._of_users[client.user] += 1
        if self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._end_idle)
        client.begin(came)

    def _surplus(self, newcomer: int) -> Client:
        """Who has to go for one more of this user."""
        held = {user: count + (user == newcomer) for user, count in self._of_users.items()}
        most = max(held.values())
        of_those = [one for one in self.clients if held[one.user] == most]
        return next((one for one in of_those if not one.asked), None) or min(of_those, key=lambda one: one.heard)

    def leave(self, client: Client) -> None:
        """This client has ended."""
        if client in self.clients:
            del self.clients[client]
            self._of_users[client.user] -= 1
            if not self._of_users[client.user]:
                del self._of_users[client.user]

    def _end_idle(self) -> None:
        """End the clients that have not asked for too long, and look again when the next one may have to go."""
        loop = asyncio.get_running_loop()
        for client in [one for one in self.clients if one.heard + IDLE <= loop.time()]:
            client.end()
        self._idle = None
        if self.clients:
            self._idle = loop.call_at(min(one.heard for one in self.clients) + IDLE, self._end_idle)


class _Listener:
    """One endpoint. Raises OSError if it cannot be had.

    It accepts by itself: what asyncio's Server has accepted when it is closed is lost, neither served nor ended.
    """

    def __init__(self, endpoint: Endpoint, socketmap: Socketmap) -> None:
        self._socketmap = socketmap
        self._path = Path(endpoint.path) if isinstance(endpoint, UnixEndpoint) else None
        self._socket = listening_socket(endpoint)
        self._file = identity(self._path) if self._path else None
        self._clients: set[Client] = set()
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Listen no more; end the connections; remove the socket file."""
        self._loop.remove_reader(self._socket)
        if self._again is not None:
            self._again.cancel()
        self._socket.close()
        for client in list(self._clients):
            client.end()
        if self._path is not None:
            with suppress(OSError):
                if identity(self._path) == self._file:  # this file, and no other that has taken its place
                    self._path.unlink()

    def _watch(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        """Take up who waits. Whoever fills the queue with connections that he has closed again keeps nobody out."""
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: the client waits in the backlog
                log.warning("socketmap: no connection can be accepted now: %s", error.strerror)
                self._loop.remove_reader(self._socket)
                self._again = self._loop.call_later(ACCEPT_AGAIN, self._watch)
                return
            connection.setblocking(False)
            if (came := read(connection)) is not None:
                client = Client(connection, user_of(connection), self._socketmap.reply, self._left)
                self._clients.add(client)
                self._socketmap.join(client, came)

    def _left(self, client: Client) -> None:
        self._clients.discard(client)
        self._socketmap.leave(client)
