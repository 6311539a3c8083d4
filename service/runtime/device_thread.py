"""One thread for a device that wants all its calls from the same one, one after another. Knows no models."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DeviceThread:
    """Makes calls for any thread, in the order they come in, each on the same thread; started with the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Make a call on the thread, wait for it and return or raise what came of it. Not for the thread itself."""
        with self._starting:
            if self._thread is None:  # a daemon: a call that hangs must not keep the process from ending
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        done: Future[T] = Future()
        self._calls.put((function, done))
        try:
            return done.result()
        finally:
            del done  # an error keeps this frame, which would keep the error

    def _work(self) -> None:
        while True:
            function, done = self._calls.get()
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
                done.set_exception(error)
            del function, done  # they hold a model, which would stay in memory until the next call
