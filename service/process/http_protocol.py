"""One connection: uvicorn's HTTP parser, with the limits that it lacks.

uvicorn keeps headers of any size, waits for them without a timeout, and keeps the answer of a caller that never reads.
It loses the body of a request that asks for an upgrade; here such a request is answered as if it had not asked.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEADER_BYTES = 64 * 1024
HEADER_LINES = 128
HEADER_SECONDS = 20.0  # from the first byte of a request to the last of its headers; for a body see `api.middleware`
FIRST_SECONDS = 75.0  # to the first byte of a connection, where the setting keep_alive_seconds is not less
SILENCE_SECONDS = 120.0  # a connection whose caller neither reads nor sends while its answer waits
BLANKS = b" \t"  # around a header value, these are not part of it
TOO_LARGE = "The headers are too large or too many."


class _AnyLength(int):
    """The length of an answer that ends with its connection: it is never too long or too short."""

    def __lt__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return False

    def __sub__(self, other: int) -> "_AnyLength":
        return self

    __hash__ = int.__hash__


class _HeadersError(Exception):
    """A request has too many header lines."""


class IdleConnections:
    """The connections of one server that wait for a request. If there are too many, the oldest is closed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[GuardedConnection, None] = {}  # in the order in which they began to wait

    def add(self, connection: "GuardedConnection") -> None:
        """Add a connection that now waits for a request."""
        self._waiting[connection] = None
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            self.discard(oldest)
            oldest.transport.close()

    def discard(self, connection: "GuardedConnection") -> None:
        """Remove a connection that no longer waits."""
        self._waiting.pop(connection, None)


class GuardedConnection(HttpToolsProtocol):
    """Refuses headers that are too large (431), and closes stalled connections."""

    def __init__(self, *args: Any, idle: IdleConnections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle = idle
        self._upgrading = False  # the request that is being parsed asks for an upgrade

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. A connection that sends nothing is closed like one that is kept alive."""
        super().connection_made(transport)
        self._unused = self._lines = 0  # bytes that the parser has not yet used; header lines
        self._open = False  # a request has begun and has not ended
        self._in_head = False  # its headers are being read: what comes behind its body is a trailer
        self._invalid = False  # nothing more is read: what came behind a request is not valid
        self._late: asyncio.TimerHandle | None = None
        self._silent: asyncio.TimerHandle | None = None
        self._moved = self.loop.time()
        self._cycles: list[RequestResponseCycle] = []  # requests without a complete answer; several where pipelined
        first = min(self.timeout_keep_alive, FIRST_SECONDS)
        self.timeout_keep_alive_task = self.loop.call_later(first, self.timeout_keep_alive_handler)
        self._idle.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and stop the timers. uvicorn notifies only the last of several pipelined requests.

        It leaves the timer of a connection that was reset, and so keeps the connection in memory until the timer ends.
        """
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._idle.discard(self)
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._in_time()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse data. Start a timer where a request has begun and is not yet complete."""
        self._unused += len(data)
        self._moved = self.loop.time()
        self._idle.discard(self)
        self._unset_keepalive_if_required()
        if self._invalid:
            return
        self._parse(data)
        if self.transport.is_closing():
            return
        if self._unused > HEADER_BYTES:
            if not self._answer_earlier():
                self._refuse()
        elif (self._unused or self._open) and self._late is None and self._answered:
            self._late = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _parse(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(left)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    if not self._upgrading:  # CONNECT: what follows is not HTTP
                        return
                    left = left[upgrade.args[0] :]
                    self._decline_upgrade()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _decline_upgrade(self) -> None:
        """Parse the head of a request again, without the upgrade that it asks for; its body follows."""
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if name != b"upgrade":
                head.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._open, self._in_head, self._lines, self._upgrading = True, True, 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header line or a trailer. A trailer is not used: it must not act as a header (RFC 9110, 6.5.1)."""
        self._lines += 1
        if self._lines > HEADER_LINES:
            raise _HeadersError
        if self._in_head:
            super().on_header(name, value.strip(BLANKS))

    def on_headers_complete(self) -> None:
        """Pass the request on. One that asks for an upgrade is parsed again first."""
        tunnel = self.parser.get_method() == b"CONNECT"
        self._upgrading = self.parser.should_upgrade() and not tunnel
        if self._upgrading:
            return
        self._unused, self._in_head = 0, False
        self._in_time()
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":  # has no chunks; the connection is closed after the answer
            self.cycle.chunked_encoding, self.cycle.expected_content_length = False, _AnyLength()
        self.cycle.keep_alive &= not tunnel
        self._cycles = [*(each for each in self._cycles if not each.response_complete), self.cycle]

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._upgrading:
            return
        self._unused, self._open = 0, False
        self._in_time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a request's answer; the connection may wait for the next request from now on."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._idle.add(self)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP, and headers over the limit. In the middle of an answer only close."""
        if self._answer_earlier():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        elif self._lines > HEADER_LINES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _answer_earlier(self) -> bool:
        """Return whether whole requests before an invalid one wait for answers: these come first, and then the end."""
        if self._answered or self.cycle.more_body:
            return False
        self.cycle.keep_alive, self._invalid = False, True
        return True

    def pause_writing(self) -> None:
        """Wait for a caller that reads more slowly than it is answered, with a timeout."""
        super().pause_writing()
        self._moved = self.loop.time()
        self._end_where_silent()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _end_where_silent(self) -> None:
        left = SILENCE_SECONDS - (self.loop.time() - self._moved)
        if left <= 0:
            self.transport.abort()
        else:
            self._silent = self.loop.call_later(left, self._end_where_silent)

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self) -> None:
        head = STATUS_LINE[431] + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(TOO_LARGE) + TOO_LARGE.encode())
        self.transport.close()
