"""What every benchmark here needs: commands timed with their CPU and memory, the CPU of a server, pairs and spreads.

Linux only: everything that is not wall time comes from /proc. Where it cannot be had (a server on another machine),
it is None, and the table shows a dash.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg

T = TypeVar("T")
_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat, counted from the one after the command's name, which may hold blanks and brackets.
_STATE, _PPID, _UTIME, _CSTIME, _STARTED = 0, 1, 11, 14, 19
_SAMPLE_SECONDS = 0.25
_SAID = 2000


@dataclass(frozen=True)
class Ran:
    """A command that has ended. Seconds; `peak` is in bytes."""

    wall: float
    cpu: float  # of the process and all children that it waited for
    peak: int | None  # all its processes together, a shared page once; None if it ended before it was looked at
    parent_peak: int | None  # resident memory of the process itself, shared pages included, as the kernel kept it
    worker_peak: int | None  # the same of the largest of its descendants; None if it had none
    exit_code: int
    said: str  # the end of its output, errors last


def run(command: Sequence[str], env: Mapping[str, str], timeout: float) -> Ran:
    """Run a command in a session of its own to its end. One that takes longer than `timeout` seconds is killed.

    Raises OSError where it cannot be started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        over = threading.Event()
        # Nobody else may wait for the child: only wait4 tells what it used, and only once.
        watch = _Watch(child.pid, over, timeout)
        watch.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            _kill(child.pid)
            child.wait()
            raise
        finally:
            wall = time.perf_counter() - began
            over.set()
            watch.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        said = _end(out.fileno()) + _end(err.fileno())
        if watch.killed:
            said += f"\nkilled after {timeout:.0f} s"
    cpu = used.ru_utime + used.ru_stime
    workers = [size for pid, size in watch.peaks.items() if pid != child.pid]
    each = watch.peaks.get(child.pid), max(workers, default=None)
    return Ran(wall, cpu, watch.peak, *each, child.returncode, said.strip()[-_SAID:])


class _Watch(threading.Thread):
    """Looks at a process and its descendants now and then: the most memory they had, and whether it is too late.

    Not `ru_maxrss`: that is the largest single process, so a command with four of them looks like one; and a child
    inherits it from whoever started it, so a small program seems to be as large as this one.
    """

    def __init__(self, pid: int, over: threading.Event, timeout: float) -> None:
        super().__init__(daemon=True)
        self.peak: int | None = None
        self.peaks: dict[int, int] = {}  # of each process, by its id
        self.killed = False
        self._pid = pid
        self._over = over
        self._deadline = time.monotonic() + timeout

    def run(self) -> None:
        # The first look is early, for commands that are over soon.
        pause = 0.05
        while not self._over.wait(pause):
            pause = _SAMPLE_SECONDS
            if time.monotonic() > self._deadline:
                self.killed = True
                _kill(self._pid)
            tree = _tree(self._pid)
            # What the kernel itself keeps misses no peak between two looks, only the time after the last one.
            found = {pid: size for pid in tree if (size := _memory(pid, "status", "VmHWM:")) is not None}
            self.peaks.update((pid, max(size, self.peaks.get(pid, 0))) for pid, size in found.items())
            sizes = [size for pid in tree if (size := _memory(pid, "smaps_rollup", "Pss:")) is not None]
            if sizes:
                self.peak = max(self.peak or 0, sum(sizes))


def _kill(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


def _end(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _SAID, max(0, size - _SAID)).decode(errors="replace")


def _stat(pid: int | str) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    """Every process's parent. /proc/PID/task/TID/children would be cheaper, but many kernels do not have it."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - called four times a second while something is measured
        if name.isdigit() and (stat := _stat(name)):
            found[int(name)] = int(stat[_PPID])
    return found


def _tree(root: int) -> list[int]:
    parents = _parents()
    members, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return sorted(members)


def _memory(pid: int, file: str, field: str) -> int | None:
    """Bytes of memory of a process; None if it has ended.

    `Pss` of smaps_rollup: what it has now, of a page that others share its part only. `VmHWM` of status: the most
    that it had since it became the program it is, shared pages in full.
    """
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


class ServerCpu:
    """The CPU that all processes of one PostgreSQL server have used since it started."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster

    @classmethod
    def of(cls, connection: psycopg.Connection[tuple[object, ...]]) -> ServerCpu | None:
        """The server of a connection, found by its process; None where that is not a process of this machine."""
        rows = connection.execute("SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())").fetchall()
        pid, started = int(str(rows[0][0])), float(str(rows[0][1]))
        backend = _stat(pid)
        if backend is None:
            return None
        postmaster = int(backend[_PPID])
        stat = _stat(postmaster)
        # A server elsewhere, or in another pid namespace, has numbers that belong to anybody here.
        if stat is None or abs(_boot_time() + int(stat[_STARTED]) / _TICKS - started) > 3:
            return None
        return cls(postmaster)

    def seconds(self) -> float:
        """User and system time of the postmaster, its living children and those that have ended.

        A child that ends between two looks would be counted twice or never, so it is looked again until
        nothing has changed meanwhile.
        """
        before = self._ended()
        while True:
            ticks = before[0]
            for pid, parent in _parents().items():
                if parent == self._postmaster and (stat := _stat(pid)):
                    ticks += sum(map(int, stat[_UTIME : _UTIME + 2]))
            after = self._ended()
            if after[1:] == before[1:]:
                return ticks / _TICKS
            before = after

    def _ended(self) -> tuple[int, int, int]:
        """Ticks of the postmaster and all children that it has collected, and of the latter the two parts."""
        stat = _stat(self._postmaster)
        if stat is None:
            raise ProcessLookupError("the server has gone away")
        parts = [int(field) for field in stat[_UTIME : _CSTIME + 1]]
        return sum(parts), parts[2], parts[3]


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise OSError("/proc/stat has no btime")


def machine_cpu() -> float:
    """CPU seconds that the whole machine has spent busy: whatever somebody else took from a run shows here."""
    # user nice system idle iowait irq softirq steal
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> list[str]:
        return [f"{value:.{digits}f}" for value in (self.median, self.low, self.high)]


def alternate(contenders: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Every contender once a round; each round begins with another one, so that nobody always follows the same.

    The step is a third of the list: with a step of one, few rounds would hardly move anybody.
    """
    step = max(1, len(contenders) // 3)
    for number in range(rounds):
        first = number * step % max(1, len(contenders))
        for contender in [*contenders[first:], *contenders[:first]]:
            yield number, contender


def ratios(mine: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Mine over theirs, for every round in which both have a value."""
    return [mine[number] / theirs[number] for number in sorted(mine) if number in theirs]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them; the first and the last one flushed left, the others right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    texts = []
    for first, *others, last in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:-1], strict=True)]
        texts.append("  ".join([first.ljust(widths[0]), *cells, last]).rstrip())
    return "\n".join(texts)
