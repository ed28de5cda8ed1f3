"""What is done to a run: kills, signals, ended sessions, servers stopped, locks, settings. Each draws from the seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql

from hyperfill.sandbox import Server
from hyperfill.sandbox.processes import belongs
from tests.faults.runs import Run
from tests.faults.scenery import Scene
from tests.fixtures import scenes
from tests.fixtures.pair import connect
from tests.fixtures.scenes import until

KILLED = -signal.SIGKILL
_SESSIONS = (
    "SELECT pid, state = 'active' FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name ~ '^hyperfill/[0-9]+(/|$)' ORDER BY pid"
)


T = TypeVar("T")


class TooLate(Exception):
    """There was nothing left to do it to."""


@dataclass
class Victim:
    """A run, and where it works. `server` of the target is None where it must not be stopped."""

    run: Run
    scene: Scene
    rng: random.Random
    source: Server
    target: Server | None
    start: Callable[[], Run]  # the same command once more

    def side(self) -> str:
        return self.rng.choice(["source", "target"])

    def side_to_stop(self) -> str:
        return self.side() if self.target is not None else "source"

    def conninfo(self, side: str) -> str:
        return self.scene.source if side == "source" else self.scene.target

    def server(self, side: str) -> Server:
        server = self.source if side == "source" else self.target
        assert server is not None
        return server

    def worker(self) -> int:
        return self.rng.choice(self._look(lambda: sorted(self.run.workers())))

    def session(self, side: str) -> int:
        """A backend of a worker, if possible one that does something."""
        found = self._look(lambda: scenes.rows(self.conninfo(side), _SESSIONS))
        return int(self.rng.choice([s for s in found if s[1]] or found)[0])

    def _look(self, find: Callable[[], list[T]]) -> list[T]:
        """What is found within a few seconds, while the run lives."""
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline and self.run.alive:
            with contextlib.suppress(psycopg.Error):
                if found := find():
                    return found
            time.sleep(0.02)
        raise TooLate

    def kill(self, pid: int, signum: int) -> None:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            raise TooLate from None


def kill_all(v: Victim) -> str:
    v.run.expected.add(KILLED)
    v.run.signal_group(signal.SIGKILL)
    return ""


def kill_parent(v: Victim) -> str:
    v.run.expected.add(KILLED)
    v.run.signal(signal.SIGKILL)
    return ""


def kill_worker(v: Victim) -> str:
    v.kill(v.worker(), signal.SIGKILL)
    return ""


def terminate_backend(v: Victim) -> str:
    side = v.side()
    if not scenes.scalar(v.conninfo(side), "SELECT pg_terminate_backend(%s)", v.session(side)):
        raise TooLate
    return side


def cancel_backend(v: Victim) -> str:
    side = v.side()
    if not scenes.scalar(v.conninfo(side), "SELECT pg_cancel_backend(%s)", v.session(side)):
        raise TooLate
    return side


def kill_backend(v: Victim) -> str:
    """The whole server crashes with it, and recovers."""
    side = v.side_to_stop()
    server, pid = v.server(side), v.session(side)
    if not belongs(pid, server.pgdata):
        raise TooLate
    v.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    until(lambda: accepts(v.conninfo(side)), 60, f"the {side} to recover")
    return side


def stop_server(v: Victim) -> str:
    side, away = v.side_to_stop(), v.rng.uniform(0, 3)
    server = v.server(side)
    port = server.port
    server.stop("immediate")
    time.sleep(away)
    server.start()
    assert server.port == port, "somebody took the server's port"
    until(lambda: accepts(v.conninfo(side)), 60, f"the {side} to start")
    return side


def accepts(conninfo: str) -> bool:
    try:
        return bool(scenes.scalar(conninfo, "SELECT true"))
    except psycopg.Error:
        return False


def _signal(v: Victim, signum: int, *, group: bool) -> None:
    # Until Python has begun to listen, it is the signal's default.
    v.run.expected |= {128 + signum} if v.run.listening else {128 + signum, -signum}
    v.run.signal_group(signum) if group else v.run.signal(signum)


def sigint(v: Victim) -> str:
    _signal(v, signal.SIGINT, group=True)
    return ""


def two_sigints(v: Victim) -> str:
    _signal(v, signal.SIGINT, group=True)
    time.sleep(v.rng.uniform(0.02, 0.6))
    _signal(v, signal.SIGINT, group=True)
    return ""


def sigterm(v: Victim) -> str:
    _signal(v, signal.SIGTERM, group=False)
    return ""


def sighup(v: Victim) -> str:
    _signal(v, signal.SIGHUP, group=False)
    return ""


def close_terminal(v: Victim) -> str:
    assert v.run.terminal is not None
    v.run.expected |= {128 + signal.SIGHUP} if v.run.listening else {128 + signal.SIGHUP, -signal.SIGHUP}
    v.run.terminal.close()
    return ""


def freeze(v: Victim) -> str:
    who = v.rng.choice(["parent", "worker"])
    pid = v.run.process.pid if who == "parent" else v.worker()
    v.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    return who


def two_runs(v: Victim) -> str:
    """Two work on the same backfill, and one of them is killed."""
    other = v.start()
    time.sleep(v.rng.uniform(0.3, 2.0))
    for victim in v.rng.sample([v.run, other], 2):
        if victim.alive:
            victim.expected.add(KILLED)
            victim.signal_group(signal.SIGKILL)
            return "the first" if victim is v.run else "the second"
    raise TooLate


def hold_lock(v: Victim) -> str:
    """Somebody holds a lock on a chunk of the range for longer than a window waits."""
    chunks = scenes.rows(v.scene.target, "SELECT c::text FROM show_chunks('m') AS c ORDER BY 1")
    mode = v.rng.choice(["ACCESS EXCLUSIVE", "EXCLUSIVE", "SHARE"])
    seconds = v.rng.uniform(0.9, 1.5)
    with psycopg.connect(v.scene.target, application_name="administrator") as connection:
        connection.execute("SET lock_timeout = '5s'")
        try:
            connection.execute(f"LOCK TABLE {v.rng.choice(chunks)[0] if chunks else 'm'} IN {mode} MODE".encode())
        except psycopg.Error as error:
            raise TooLate from error
        time.sleep(seconds)
        connection.rollback()
    return mode.lower()


def deadlock(v: Victim) -> str:
    """A transaction of an application that makes a chunk, then wants rows that a window may be deleting.

    It writes nothing in the end: whatever happened, the rows are as if it had not been there.
    """
    scene, rng = v.scene, v.rng
    keys = scenes.rows(scene.source, f"SELECT time::text, n, device FROM m WHERE {scene.inside} ORDER BY n")
    said = "got through"
    with connect(scene.target) as connection:
        deadline = time.monotonic() + 1.5
        while v.run.alive and time.monotonic() < deadline:
            connection.execute("BEGIN")
            try:
                far = scene.at(scene.end + scene.chunk * rng.randint(30, 900))
                connection.execute(f"INSERT INTO m (time, n, device) VALUES ({far}, 0, 0)".encode())
                for _ in range(3):
                    time.sleep(rng.uniform(0, 0.25))
                    place = rng.choice(keys)
                    connection.execute("SELECT FROM m WHERE time = %s AND n = %s FOR UPDATE", place[:2])
                    if scene.key:
                        connection.execute(
                            "INSERT INTO m (time, n, device) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", place
                        )
            except psycopg.errors.DeadlockDetected:
                said = "the application was the deadlock's victim"
            except (psycopg.errors.SerializationFailure, psycopg.errors.FeatureNotSupported):
                pass  # rows of a compressed chunk cannot be locked before a DELETE or UPDATE has decompressed them
            finally:
                connection.execute("ROLLBACK")
    return said


def _setting(v: Victim, side: str, name: str, value: str) -> None:
    """A setting of the database for a second. Sessions read it when they begin, so those of the workers are ended."""
    with psycopg.connect(v.conninfo(side), autocommit=True, application_name="administrator") as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("SET statement_timeout = 0")
        alter = sql.SQL("ALTER DATABASE {} ").format(sql.Identifier(connection.info.dbname))
        setting = sql.Identifier(name)
        connection.execute(alter + sql.SQL("SET {} = {}").format(setting, sql.Literal(value)))
        try:
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({_SESSIONS}) AS s".encode())
            time.sleep(1)
        finally:
            connection.execute(alter + sql.SQL("RESET {}").format(setting))


def read_only(v: Victim) -> str:
    side = v.side()
    _setting(v, side, "default_transaction_read_only", "on")
    return side


def statement_timeout(v: Victim) -> str:
    side = v.side()
    _setting(v, side, "statement_timeout", v.rng.choice(["5ms", "30ms"]))
    return side


_GIVES_UP = frozenset({4})
_REFUSES = frozenset({3, 4})


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. A run to which nothing was done must end with 0; one to which this was, also with
    `codes`, or those that the fault itself noted."""

    name: str
    act: Callable[[Victim], str]
    codes: frozenset[int] = frozenset()
    deadly: bool = False  # the run ends by it
    terminal: bool = False  # the run must have been started in one


FAULTS = (
    Fault("kill -9 of the process group", kill_all, deadly=True),
    Fault("kill -9 of the parent only", kill_parent, deadly=True),
    Fault("kill -9 of one worker", kill_worker),
    Fault("session ended (pg_terminate_backend)", terminate_backend),
    Fault("statement cancelled (pg_cancel_backend)", cancel_backend, _GIVES_UP),
    Fault("kill -9 of a server's backend", kill_backend, _REFUSES),
    Fault("server stopped (immediate), 0 to 3 s away", stop_server, _REFUSES),
    Fault("SIGINT to the group", sigint, deadly=True),
    Fault("two SIGINTs to the group", two_sigints, deadly=True),
    Fault("SIGTERM", sigterm, deadly=True),
    Fault("SIGHUP", sighup, deadly=True),
    Fault("terminal closed", close_terminal, deadly=True, terminal=True),
    Fault("parent or worker frozen for 2 s", freeze),
    Fault("two runs at once, one killed", two_runs),
    Fault("lock on a chunk for about a second", hold_lock),
    Fault("writer that makes chunks and wants the same rows", deadlock),
    Fault("database read-only for a second", read_only, _REFUSES),
    Fault("statement_timeout of the database for a second", statement_timeout),
)
