"""One thread that makes all calls to a device that must be used from a single thread. Knows no models."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DeviceThread:
    """Makes calls for other threads, in order, on one thread. The first call starts it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the thread; return or raise its result. Must not be called on the thread itself."""
        with self._starting:
            if self._thread is None:  # a daemon: a call that hangs must not keep the process alive
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        done: Future[T] = Future()
        self._calls.put((function, done))
        try:
            return done.result()
        finally:
            del done  # an error keeps this frame, and the frame would keep the error

    def _work(self) -> None:
        while True:
            function, done = self._calls.get()
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
                done.set_exception(error)
            del function, done  # they hold a model, which would stay in memory until the next call
