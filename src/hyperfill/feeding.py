"""Batches from one reader to many workers: cut here, copied there.

The reader is a thread, because it waits for the disk and for slow workers; the workers are processes. Each is fed
through a pipe of its own, which holds it one batch ahead at most: memory stays at a few batches for each worker.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection as Pipe
from typing import Any

from hyperfill import loader
from hyperfill.batch import LoadOrder
from hyperfill.engine import Crew, Member
from hyperfill.errors import HyperfillError, first_line
from hyperfill.loader import LoadTask
from hyperfill.loads import Batch
from hyperfill.worker import Event


class _Queue:
    """Batches on their way: waiting, or with a worker and not yet answered for. Closed when there are neither."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[Batch] = deque()
        self._away: dict[int, list[Batch]] = {}
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

    def take(self, worker: int) -> Batch | None:
        """The next batch for a worker; None when all are answered for."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._waiting or self._over)
            if self.stopped or not self._waiting:
                return None
            batch = self._waiting.popleft()
            self._away.setdefault(worker, []).append(batch)
            self._changed.notify_all()
            return batch

    @property
    def _over(self) -> bool:
        return self._read and not self._waiting and not any(self._away.values())

    def answered(self, worker: int) -> None:
        """A worker is done with the batch that it was given first."""
        with self._changed:
            if self._away.get(worker):
                self._away[worker].pop(0)
            self._changed.notify_all()

    def back(self, worker: int) -> None:
        """A worker is gone: what it had is for the others. Should it have been loaded, the ledger knows."""
        with self._changed:
            self._waiting.extendleft(reversed(self._away.pop(worker, [])))
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether everything was read and answered for."""
        with self._changed:
            return self._over


class Feeding(Crew):
    """The workers of a load and the thread that reads for them."""

    noun = "batches"

    def __init__(
        self,
        load: LoadOrder,
        jobs: int,
        batches: Iterable[Batch],
        *,
        go_on: bool,
        bytes_per_second: float | None = None,
    ) -> None:
        """`go_on`: a batch that fails does not end the load."""
        self._load = load
        self._go_on = go_on
        self._queue = _Queue(jobs)
        self._batches = batches
        self.error: HyperfillError | None = None  # of the reader
        self.failed = 0
        super().__init__([load.order], jobs, bytes_per_second)
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()

    @property
    def complete(self) -> bool:
        """Whether every batch of every file is loaded."""
        return self._queue.over and self.error is None and not self.failed and not self._queue.stopped

    def _task(self, number: int) -> Any:
        return LoadTask(number, self._load, self._rate)

    def _start(self, task: Any) -> Member:
        self._queue.back(task.number)
        theirs, ours = self._context.Pipe(duplex=False)
        member = self._launch(task, loader.main, (theirs,))
        theirs.close()
        threading.Thread(target=self._feed, args=(task.number, ours), name="feeder", daemon=True).start()
        return member

    def _read(self) -> None:
        try:
            for batch in self._batches:
                if not self._queue.put(batch):
                    return
            self._queue.end()
        except HyperfillError as error:
            self.error = error
            self._queue.end()
        except Exception as error:
            self.error = HyperfillError(f"reading failed: {type(error).__name__}: {first_line(error)}")
            self._queue.end()

    def _feed(self, worker: int, pipe: Pipe) -> None:
        # A pipe that breaks: the worker is gone, and whoever watches the crew does what is needed.
        with contextlib.suppress(OSError, ValueError):
            while (batch := self._queue.take(worker)) is not None:
                pipe.send((batch.file, batch.start, batch.line, batch.rows))
                pipe.send_bytes(batch.data)
        with contextlib.suppress(OSError):
            pipe.close()

    def _receive(self, member: Member) -> Iterator[Event]:
        for event in super()._receive(member):
            if event.kind in ("loaded", "failed"):
                self._queue.answered(event.worker)
            if event.kind == "failed":
                self.failed += 1
                if not self._go_on and not self.draining:
                    self.drain()
            if event.kind == "ended" and event.error is not None:
                self.drain()
            yield event

    def drain(self) -> None:
        self._queue.stop()
        super().drain()

    def cancel(self) -> None:
        self._queue.stop()
        super().cancel()

    def close(self) -> None:
        self._queue.stop()
        super().close()
