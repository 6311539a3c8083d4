"""The connections of both clients: of one process for `Client`, of one event loop for `AsyncClient`. Knows no calls.

A fork inherits sockets, locks and the memory of threads. With these, a child would read its parent's answers and wait
for locks that nobody releases, so it opens its own.
"""

import asyncio
import functools
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from relevance.client.exchange import httpx
from relevance.client.loop_thread import LoopThread
from relevance.client.reranking import Reranking
from relevance.client.sender import Sender
from relevance.errors import ConfigError

RERANKS_AT_ONCE = 100  # of the threads that share a `Client`
CLOSED = "the client is closed; expected an open one, for example inside its `with` block"
VARIABLES = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR"

Made = TypeVar("Made")


def checked_environment(make: Callable[[], Made]) -> Made:
    """Return what `make` returns. Raises ConfigError where proxies or certificates of the environment are not valid."""
    try:
        return make()
    except ImportError as error:  # names the package that proxies of this kind need
        raise ConfigError(f"{VARIABLES} in the environment: {error}") from None
    except (OSError, ValueError, httpx.InvalidURL) as error:  # its message may hold a proxy's password
        raise ConfigError(
            f"{VARIABLES} in the environment: one is not valid ({type(error).__name__}); expected proxies as "
            "http://HOST:PORT, and files of certificates"
        ) from None


class ProcessConnections:
    """The connections of a `Client` in one process: those of plain code, and those of an event loop for `rerank`."""

    def __init__(self, base_url: str, headers: Mapping[str, str], context: ssl.SSLContext) -> None:
        self.reranking = Reranking()
        self.http = checked_environment(
            functools.partial(httpx.Client, base_url=base_url, headers=dict(headers), verify=context)
        )
        self._make_sender = functools.partial(Sender, base_url, headers, RERANKS_AT_ONCE, context)
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._on_loop: tuple[LoopThread, Sender] | None = None
        self._closed = False

    def of_this_process(self) -> bool:
        """Return whether this is the process that the connections belong to. Raises ConfigError once they are closed.

        A fork of a closed client is closed too.
        """
        if self._closed:
            raise ConfigError(CLOSED)
        return self._pid == os.getpid()

    def on_loop(self) -> tuple[LoopThread, Sender]:
        """Return what `rerank` sends with, and its event loop, made for the first call. Raises ConfigError if closed.

        Only on an event loop can a request be given up in time, whatever it waits for, and a second one be sent.
        """
        with self._lock:
            if self._closed:
                raise ConfigError(CLOSED)
            if self._on_loop is None:
                self._on_loop = LoopThread("relevance-rerank"), self._make_sender()
            return self._on_loop

    def close(self) -> None:
        """Close the connections. Calls of `rerank` in progress are cancelled."""
        if self._pid != os.getpid():  # they are the parent's
            self._closed = True
            return
        with self._lock:
            running, self._on_loop, self._closed = self._on_loop, None, True
        self.http.close()
        if running is not None:
            loop, sender = running
            loop.close(sender.http.aclose)


class LoopConnections:
    """The connections of an `AsyncClient`, for each event loop that it is used on."""

    def __init__(self, make: Callable[[], Sender]) -> None:
        """`make` makes those of one loop."""
        self._make, self._closed = make, False
        self._senders: dict[asyncio.AbstractEventLoop, Sender] = {}
        checked_environment(make)  # a fault is found here, and not by the first call

    def sender(self) -> Sender:
        """Return the connections of the running loop. Raises ConfigError once they are closed."""
        if self._closed:
            raise ConfigError(CLOSED)
        loop = asyncio.get_running_loop()
        if loop not in self._senders:
            self._senders = {each: sender for each, sender in self._senders.items() if not each.is_closed()}
            self._senders[loop] = self._make()
        return self._senders[loop]

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of others end with their loops."""
        self._closed = True
        if (sender := self._senders.pop(asyncio.get_running_loop(), None)) is not None:
            await sender.http.aclose()
