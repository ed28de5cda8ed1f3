"""Batches from one reader to many workers: cut here, copied there.

Threads and not processes. What costs time runs without Python's lock: reading, hashing, Arrow, waiting for the server.
A batch is handed over without being copied, and no worker has to start an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from hyperfill.batch import LoadOrder
from hyperfill.errors import HyperfillError, WindowAborted, first_line
from hyperfill.loader import LoadWorker
from hyperfill.loads import Batch
from hyperfill.process import Event
from hyperfill.spec import Limits
from hyperfill.stopping import CANCEL_PATIENCE, Stop
from hyperfill.worker import Task

_LEFT_BEHIND = CANCEL_PATIENCE + 2.0  # seconds until a worker that does not end, whatever is done, is left behind


class _Queue:
    """Batches on their way: waiting, or with a worker and not yet answered for."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[Batch] = deque()
        self._away = 0
        self._changed = threading.Condition()
        self._read = False  # nothing more is coming
        self.stopped = False

    def put(self, batch: Batch) -> bool:
        """Wait for room; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or len(self._waiting) < self._room)
            if not self.stopped:
                self._waiting.append(batch)
                self._changed.notify_all()
            return not self.stopped

    def end(self) -> None:
        with self._changed:
            self._read = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def take(self, wait: bool) -> Batch | None:
        """The next batch; None when there will be none, or without `wait` none is there yet."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self.stopped or bool(self._waiting) or self._read)
            if self.stopped or not self._waiting:
                return None
            self._away += 1
            self._changed.notify_all()
            return self._waiting.popleft()

    def answered(self) -> None:
        with self._changed:
            self._away -= 1

    @property
    def over(self) -> bool:
        """Whether everything was read, given away and answered for."""
        with self._changed:
            return self._read and not self._waiting and not self._away


class Feeding:
    """The workers of a load and the thread that reads for them; to be watched as a `Crew` is."""

    noun = "batches"
    shortage: OSError | None = None

    def __init__(
        self,
        load: LoadOrder,
        jobs: int,
        batches: Iterable[Batch],
        limits: Limits,
        *,
        go_on: bool,
    ) -> None:
        """`go_on`: a batch that fails does not end the load."""
        self._go_on = go_on
        self._queue = _Queue(jobs)
        self._batches = batches
        self._stop = Stop()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.error: HyperfillError | None = None  # of the reader
        self.failed = 0
        self.draining = False
        self._cancelled: float | None = None
        rate = limits.bytes_per_second / jobs if limits.bytes_per_second else None
        tasks = [Task(number, (load.order,), rate, limits.stall, limits.retry) for number in range(1, jobs + 1)]
        self._running = jobs
        self._threads = [
            threading.Thread(target=self._work, args=(load, task), name=f"worker-{task.number}", daemon=True)
            for task in tasks
        ]
        self._threads.append(threading.Thread(target=self._read, name="reader", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def complete(self) -> bool:
        """Whether every batch of every file is loaded."""
        return self._queue.over and self.error is None and not self.failed and not self._queue.stopped

    @property
    def running(self) -> bool:
        late = self._cancelled is not None and time.monotonic() - self._cancelled > _LEFT_BEHIND
        return self._running > 0 and not late

    def _read(self) -> None:
        try:
            for batch in self._batches:
                if not self._queue.put(batch):
                    return
        except HyperfillError as error:
            self.error = error
        except Exception as error:
            self.error = HyperfillError(f"reading failed: {type(error).__name__}: {first_line(error)}")
        self._queue.end()

    def _work(self, load: LoadOrder, task: Task) -> None:
        stop = Stop(self._stop)
        worker = LoadWorker(load, task, self._queue.take, stop, self._tell)
        error: HyperfillError | None = None
        try:
            worker.run()
        except WindowAborted:
            pass
        except HyperfillError as found:
            error = found
        except Exception as found:
            error = HyperfillError(f"{type(found).__name__}: {first_line(found)}")
        finally:
            worker.close()
            self._tell(Event("ended", task.number, error=error))

    def _tell(self, event: Event) -> None:
        if event.kind in ("loaded", "failed"):
            self._queue.answered()
        self._events.put(event)
        with contextlib.suppress(OSError):
            os.write(self._waker, b"!")

    def events(self, timeout: float, wake: int | None = None) -> Iterator[Event]:
        """What workers have told within `timeout` seconds; empty when nothing happened.

        A readable `wake` (a file descriptor) ends the waiting early.
        """
        ready, _, _ = select.select([self._wake] if wake is None else [self._wake, wake], [], [], timeout)
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake, 4096):
                    pass
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            if event.kind == "failed":
                self.failed += 1
                if not self._go_on:
                    self.drain()
            if event.kind == "ended":
                self._running -= 1
                if event.error is not None:
                    self.drain()
            yield event

    def drain(self) -> None:
        """Let running batches finish, begin no more."""
        self.draining = True
        self._queue.stop()
        self._stop.drain.set()

    def cancel(self) -> None:
        """Cancel running batches on the server; they are rolled back."""
        self.drain()
        self._cancelled = self._cancelled or time.monotonic()
        self._stop.abort()

    def close(self) -> None:
        """Leave nothing running. A thread that reads from a terminal or a pipe cannot be woken, and is left behind."""
        if self.running:
            self.cancel()
        self._queue.stop()
        deadline = (self._cancelled or time.monotonic()) + _LEFT_BEHIND
        for thread in self._threads[:-1]:
            thread.join(max(0.1, deadline - time.monotonic()))
        self._threads[-1].join(0.2)
        self._stop.over.set()
