"""An application that writes every row to both sides and outlives servers that are stopped, as a good one would."""

from __future__ import annotations

import collections
import threading
import time
from types import TracebackType

import psycopg

from tests.faults.scenery import APPLICATION, Scene
from tests.fixtures.pair import Connection

_PATIENCE = 60.0  # seconds to get one row through


class Application:
    """Writes rows at or after T, all the time. Use as a context manager: when it has left, both sides have each row.

    A row whose answer was lost is looked for before it is written again: without a key there is no ON CONFLICT.
    """

    def __init__(self, scene: Scene, pause: float = 0.008) -> None:
        self._scene = scene
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="application", daemon=True)
        self._failure: BaseException | None = None
        self.written = 0
        self.errors: collections.Counter[str] = collections.Counter()  # SQLSTATE, or "lost", of every failed attempt
        self.slowest = 0.0  # seconds of the slowest INSERT on the target that was answered

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE * 2)
        if error is None and self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        scene = self._scene
        sides = [_Side(scene.source, self), _Side(scene.target, self)]
        try:
            while not self._stop.wait(self._pause):
                number = APPLICATION + self.written
                # Exactly T every now and then, otherwise up to several chunks later: new chunks as well.
                place = f"{scene.end} + {(self.written * 7919) % (5 * scene.chunk) if self.written % 50 else 0}"
                statement = (
                    "INSERT INTO m (time, n, device, value, note) "
                    f"VALUES ({scene.at(place)}, {number}, {number % 5}, {number}, 'app')"
                )
                for side in sides:
                    side.write(number, statement)
                self.written += 1
        except BaseException as error:
            self._failure = error
        finally:
            for side in sides:
                side.close()


class _Side:
    def __init__(self, conninfo: str, application: Application) -> None:
        self._conninfo = conninfo
        self._application = application
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._conninfo, autocommit=True, application_name="application", connect_timeout=10
            )
            # Whatever a round sets for the database is meant for hyperfill.
            self._connection.execute("SET statement_timeout = '30s'")
            self._connection.execute("SET default_transaction_read_only = off")
        return self._connection

    def write(self, number: int, statement: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        unsure = False
        while True:
            try:
                connection = self._open()
                if unsure and connection.execute("SELECT FROM m WHERE n = %s", [number]).fetchone():
                    return
                began = time.monotonic()
                connection.execute(statement.encode())
                if self._conninfo == self._application._scene.target:
                    self._application.slowest = max(self._application.slowest, time.monotonic() - began)
                return
            except psycopg.Error as error:
                # A session is lost here only together with its server, so no old one can commit behind our back.
                unsure = True
                self._application.errors[error.sqlstate or "lost"] += 1
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
