"""The feedback log of one process: entries go into a bounded queue, and a thread writes them.

No request waits for the log or fails by it. What the queue or the disk has no room for is dropped and counted.
"""

import logging
import queue
import threading
import time
from typing import Self

from relevance.feedback import sampled
from service.feedback.entries import Entry
from service.feedback.hash_key import prepare
from service.feedback.log_files import FolderFullError, LogFiles
from service.observability.feedback_metrics import FeedbackMetrics
from service.settings import Settings

log = logging.getLogger(__name__)

MAX_QUEUED_CHARACTERS = 8 * 1024 * 1024  # at most 32 MB: a character takes 1 to 4 bytes
IDLE_SECONDS = 1.0  # how often an idle writer checks whether its file is to be published
RETRY_SECONDS = 10.0  # after a failed write, how long entries are dropped before the next try
CLOSE_SECONDS = 10.0  # for what is queued when the service ends


class FeedbackLog:
    """Writes entries to the folder of the settings. `offer` is for the event loop, the rest for the writer's thread."""

    def __init__(self, settings: Settings, metrics: FeedbackMetrics, files: LogFiles, key: bytes) -> None:
        self._settings, self._metrics, self._files, self._key = settings, metrics, files, key
        self._queue: queue.SimpleQueue[tuple[Entry, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of `_queued`; held for an addition
        self._queued = 0
        self._retry_at = 0.0  # when writing is tried again, on time.monotonic
        self._failure = ""
        self._writer = threading.Thread(target=self._run, name="feedback-log", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, settings: Settings, metrics: FeedbackMetrics) -> Self | None:
        """Start the log, None where it is off. Raises ConfigError for a folder that cannot be written."""
        folder = settings.feedback_folder
        if folder is None:
            return None
        return cls(settings, metrics, LogFiles(folder, settings), prepare(folder))

    def samples(self, request_id: str) -> bool:
        """Return whether the request of this id is logged."""
        return sampled(request_id, self._settings.feedback_share)

    def offer(self, entry: Entry) -> bool:
        """Queue an entry. Return False where there is no room: it is dropped and counted."""
        size = entry.size
        with self._lock:
            fits = self._queued + size <= MAX_QUEUED_CHARACTERS
            self._queued += size if fits else 0
        if fits:
            self._queue.put((entry, size))
        else:
            self._metrics.drop(entry.kind, "queue_full")
        return fits

    def close(self) -> None:
        """Write what is queued and publish the file; waits for CLOSE_SECONDS at most."""
        self._queue.put(None)
        self._writer.join(CLOSE_SECONDS)
        if self._writer.is_alive():
            log.error("feedback log: not all was written in time; the next start publishes what was")

    def _run(self) -> None:
        self._files.adopt()
        while self._step():
            pass
        self._publish()

    def _step(self) -> bool:
        """Write the next entry. Return False when the log is closed."""
        try:
            queued = self._queue.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            self._publish(due=True)
            return True
        if queued is None:
            return False
        entry, size = queued
        with self._lock:
            self._queued -= size
        self._write(entry)
        return True

    def _write(self, entry: Entry) -> None:
        if time.monotonic() < self._retry_at:
            self._metrics.drop(entry.kind, self._failure)
            return
        try:
            lines = entry.lines(self._key, self._settings.feedback_text)
            self._files.publish_if_due()
            self._files.write(lines)
        except FolderFullError:
            detail = f"it holds feedback_folder_bytes ({self._settings.feedback_folder_bytes}) or more"
            self._fail(entry, "folder_full", detail)
        except OSError as error:
            self._fail(entry, "write_failed", error.strerror or type(error).__name__)
        except Exception:  # the thread must go on: a fault in one entry is no reason to lose all others
            log.exception("feedback log: fault")
            self._metrics.drop(entry.kind, "fault")
        else:
            self._failure = ""
            self._metrics.written.labels(entry.kind).inc(lines.count(b"\n"))

    def _fail(self, entry: Entry, why: str, detail: str) -> None:
        """Drop an entry, and what comes in the next RETRY_SECONDS. The log has one line for each kind of failure."""
        if self._failure != why:
            log.error(
                f"feedback log: {self._settings.feedback_folder} cannot be written: {detail}; entries are dropped"
            )
        self._failure, self._retry_at = why, time.monotonic() + RETRY_SECONDS
        self._metrics.drop(entry.kind, why)

    def _publish(self, due: bool = False) -> None:
        try:
            self._files.publish_if_due() if due else self._files.publish()
        except OSError as error:
            log.error(f"feedback log: a file cannot be published: {error.strerror}; the next start tries again")
