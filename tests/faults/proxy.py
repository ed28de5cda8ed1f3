"""A TCP proxy in front of a server that reads along, and breaks the connection at the message that a test names.

It understands as much of the protocol as is needed to say where a session is: its name, the statement that
it is in, the statements of its transaction before that, how much of a COPY has passed. It changes nothing:
until a rule is met every byte goes through as it came.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from psycopg import conninfo as pq_conninfo

from tests.faults.silence import acknowledged, silence

Origin = Literal["client", "server"]
Action = Literal[
    "rst",  # both ends get a reset; the message does not arrive
    "fin",  # both ends see an orderly end; the message does not arrive
    "stall",  # both sockets stay open and are acknowledged, nothing passes any more
    "hold",  # as "stall", until `release`: then the message arrives, and all that came after it
    "throttle",  # goes on at the rule's bytes per second, each way
    "client deaf",  # the server sees the end, the client never hears anything again
    "server deaf",  # the client gets a reset, the server never hears anything again
    "server alone",  # the message arrives; then as "server deaf", so nobody ever acknowledges the answer
    "swallow",  # the message arrives and all of its answer is lost; then both get a reset
    "abandon",  # the message arrives and the client gets a reset at once; the server can finish its answer
]

_FRONT = {b"Q": "Query", b"P": "Query", b"d": "CopyData", b"c": "CopyDone", b"f": "CopyFail", b"X": "Terminate"}
_BACK = {
    b"C": "CommandComplete",
    b"Z": "ReadyForQuery",
    b"G": "CopyInResponse",
    b"H": "CopyOutResponse",
    b"d": "CopyData",
    b"c": "CopyDone",
    b"E": "ErrorResponse",
}
_KINDS: dict[Origin, dict[bytes, str]] = {"client": _FRONT, "server": _BACK}
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_MUCH = 1 << 20  # bytes that may lie here before their sender is no longer read
_TICK = 0.02


@dataclass
class Rule:
    """Something to do to a session, `times` times, at the message that fits; `actions` in turn, the last one again.

    A message fits that comes from `origin`, is of this kind, in a session whose application_name at the start
    matches `who`, whose statement matches `sql`, of whose transaction an earlier statement matches `after`, and in
    whose COPY at least `copied` bytes have passed, itself included.
    """

    actions: tuple[Action, ...]
    origin: Origin
    kind: str
    sql: re.Pattern[str]
    after: re.Pattern[str] | None
    who: re.Pattern[str]
    copied: int
    times: int
    rate: float  # bytes per second, for "throttle"
    hits: list[float] = field(default_factory=list)  # when, as time.monotonic() tells it
    hit: threading.Event = field(default_factory=threading.Event)

    def fits(self, session: Session) -> bool:
        return (
            len(self.hits) < self.times
            and session.copied >= self.copied
            and self.who.search(session.name) is not None
            and self.sql.search(session.statement) is not None
            and (self.after is None or any(self.after.search(s) for s in session.transaction))
        )


class _Stream:
    """One direction: what was read and is not a whole message yet, what is still to be written."""

    def __init__(self, origin: Origin, source: socket.socket, sink: socket.socket) -> None:
        self.origin: Origin = origin
        self.source, self.sink = source, sink
        self.unread = bytearray()
        self.out = bytearray()
        self.ended = False
        self.due = 0.0  # when more may be written, if there is a rate


class Session:
    """A connection through the proxy, as far as its messages have told."""

    def __init__(self, number: int, client: socket.socket, server: socket.socket) -> None:
        self.number = number
        self.name = ""  # application_name in the startup message
        self.statement = ""
        self.transaction: list[str] = []  # since the server was last outside of a transaction
        self.status = "I"  # of the last ReadyForQuery: I, T or E
        self.copied = 0  # bytes in CopyData of the current statement
        self.started = False  # the startup message has passed
        self.cancel = False  # a cancel request, no session
        self.stalled = False
        self.held: tuple[int, bytes] | None = None  # which of the streams, and the message
        self.doomed = False  # reset when the server has answered
        self.rate: float | None = None
        self.client, self.server = client, server
        self.streams = (_Stream("client", client, server), _Stream("server", server, client))


class Proxy:
    """Listens on a port of its own and connects to the server of a conninfo. Use as a context manager."""

    def __init__(self, conninfo: str) -> None:
        parameters = pq_conninfo.conninfo_to_dict(conninfo)
        self._upstream = (str(parameters["host"]), int(str(parameters["port"])))
        self._lock = threading.RLock()
        self._rules: list[Rule] = []
        self._sessions: list[Session] = []
        self._kept: list[socket.socket] = []  # deaf ones: open until the end
        self._selector = selectors.DefaultSelector()
        self._awake, self._wake = socket.socketpair()
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._port = 0
        self._numbers = 0
        self._over = False
        self.trace: deque[str] = deque(maxlen=3000)  # what passed, for whoever looks into a failed test
        self.open()
        self.conninfo = pq_conninfo.make_conninfo(
            conninfo, host="127.0.0.1", port=self._port, sslmode="disable", gssencmode="disable"
        )
        self._thread = threading.Thread(target=self._loop, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._wake.send(b".")
        self._thread.join(10)
        self.shut()
        for one in [*self._kept, self._awake, self._wake]:
            one.close()
        self._selector.close()

    def when(
        self,
        origin: Origin,
        kind: str,
        *actions: Action,
        sql: str = "",
        after: str | None = None,
        who: str = r"^hyperfill/\d+$",
        copied: int = 0,
        times: int | None = None,
        rate: float = 0.0,
    ) -> Rule:
        """Do something at a message, as often as there are actions; see `Rule`. By default to workers' sessions."""
        assert kind in _KINDS[origin].values()
        earlier = None if after is None else re.compile(after)
        count = len(actions) if times is None else times
        rule = Rule(actions, origin, kind, re.compile(sql), earlier, re.compile(who), copied, count, rate)
        with self._lock:
            self._rules.append(rule)
        return rule

    def open(self) -> None:
        """Take connections, after `shut` on the same port again."""
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake.send(b".")

    def shut(self) -> None:
        """Refuse connections from now on, and reset those that there are."""
        with self._lock:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None
            for session in list(self._sessions):
                self._cut(session, "rst")

    def cut(self, who: str) -> int:
        """Reset the sessions with such a name now; how many."""
        with self._lock:
            found = [s for s in self._sessions if re.search(who, s.name)]
            for session in found:
                self._cut(session, "rst")
        return len(found)

    def release(self) -> None:
        """Let go on what is held."""
        with self._lock:
            for session in [s for s in self._sessions if s.held is not None]:
                assert session.held is not None
                number, message = session.held
                session.held, session.stalled = None, False
                session.streams[number].out += message
                for stream in session.streams:
                    self._read(session, stream)
                self._register(session)
        self._wake.send(b".")

    def bury(self) -> None:
        """End what is deaf or stalled: the other end is told now."""
        with self._lock:
            for one in self._kept:
                one.close()
            self._kept.clear()
            for session in [s for s in self._sessions if s.stalled]:
                self._cut(session, "rst")

    # -- the loop, in a thread of its own --------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._over:
            ready = self._selector.select(_TICK)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._awake:
                        self._awake.recv(4096)
                    elif self._listener is not None and key.fileobj is self._listener:
                        self._accept(self._listener)
                    elif isinstance(key.data, Session) and key.data in self._sessions:
                        self._move(key.data, key.fileobj)
                for session in list(self._sessions):
                    self._write(session)
                    self._register(session)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            try:
                server = socket.create_connection(self._upstream, 10)
            except OSError:
                client.close()
                return
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._numbers += 1
            self._sessions.append(Session(self._numbers, client, server))

    def _register(self, session: Session) -> None:
        """Wait for what can be done next; for nothing at all where the session is stalled."""
        if session not in self._sessions:
            return
        now = time.monotonic()
        for one in (session.client, session.server):
            events = 0
            for stream in session.streams:
                if stream.source is one and not stream.ended and len(stream.out) < _MUCH:
                    events |= selectors.EVENT_READ
                if stream.sink is one and stream.out and stream.due <= now:
                    events |= selectors.EVENT_WRITE
            events = 0 if session.stalled or one.fileno() < 0 else events
            known = self._selector.get_map().get(one) if one.fileno() >= 0 else None
            if known is None and events:
                self._selector.register(one, events, session)
            elif known is not None and events == 0:
                self._selector.unregister(one)
            elif known is not None and known.events != events:
                self._selector.modify(one, events, session)

    def _move(self, session: Session, ready: object) -> None:
        for stream in session.streams:
            if stream.source is not ready or stream.ended or len(stream.out) >= _MUCH:
                continue
            try:
                data = stream.source.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                stream.ended = True
                continue
            stream.unread += data
            self._read(session, stream)

    def _write(self, session: Session) -> None:
        now = time.monotonic()
        for stream in session.streams:
            while stream.out and not session.stalled and stream.due <= now and session in self._sessions:
                most = len(stream.out) if session.rate is None else max(1, int(session.rate * _TICK))
                try:
                    sent = stream.sink.send(stream.out[:most])
                except BlockingIOError:
                    break
                except OSError:
                    self._cut(session, "rst")
                    return
                del stream.out[:sent]
                if session.rate is not None:
                    stream.due = now + sent / session.rate
        if any(s.ended and not s.out for s in session.streams) and session in self._sessions and not session.stalled:
            self._cut(session, "fin")

    # -- messages --------------------------------------------------------------------------------------------

    def _read(self, session: Session, stream: _Stream) -> None:
        """Take whole messages from what was read, and pass them on until a rule is met."""
        data, at = stream.unread, 0
        while len(data) - at >= 5 and session in self._sessions and not session.stalled:
            typed = session.started or stream.origin == "server"
            (length,) = struct.unpack_from("!I", data, at + typed)
            end = at + typed + length
            if len(data) < end:
                break
            if not typed:
                if self._startup(session, bytes(data[at + 4 : end])):
                    stream.out += data[at:end]
                at = end
                continue
            kind = _KINDS[stream.origin].get(bytes(data[at : at + 1]))
            passed = kind is None or self._look(session, stream.origin, kind, data, at + 5, end)
            if passed and not (session.doomed and stream.origin == "server"):
                stream.out += data[at:end]
            at = end
        del data[:at]

    def _startup(self, session: Session, body: bytes) -> bool:
        """A message without a type; whether the server is to see it."""
        (code,) = struct.unpack_from("!I", body)
        if code in (_SSL, _GSS):
            session.streams[1].out += b"N"
            return False
        session.started = True
        session.cancel = code == _CANCEL
        if not session.cancel:
            words = [w.decode() for w in body[4:].split(b"\0")]
            session.name = dict(zip(words[::2], words[1::2], strict=False)).get("application_name", "")
        return True

    def _look(self, session: Session, origin: Origin, kind: str, data: bytearray, start: int, end: int) -> bool:
        """Keep up with the session, and do what a rule says; whether the message goes on."""
        if kind == "Query":
            begin = start if data[start - 5 : start - 4] == b"Q" else data.index(0, start) + 1
            if session.statement:
                session.transaction.append(session.statement)
            session.statement = data[begin : data.index(0, begin)].decode(errors="replace")
            session.copied = 0
        elif kind == "CopyData":
            session.copied += end - start
        elif kind == "ReadyForQuery":
            session.status = chr(data[start])
        if kind != "CopyData":
            detail = session.status if kind == "ReadyForQuery" else " ".join(session.statement.split())[:90]
            self.trace.append(f"{time.monotonic():.3f} {session.number} {session.name} {origin} {kind} {detail}")
        for rule in self._rules:
            if rule.kind == kind and rule.origin == origin and rule.fits(session):
                action = rule.actions[min(len(rule.hits), len(rule.actions) - 1)]
                self.trace.append(f"{time.monotonic():.3f} {session.number} {session.name} *** {action}")
                session.rate = rule.rate if action == "throttle" else session.rate
                passed = self._act(session, action, bytes(data[start - 5 : end]))
                if action == "hold":
                    session.held = (0 if origin == "client" else 1, bytes(data[start - 5 : end]))
                # Last: whoever waits for it may look at once.
                rule.hits.append(time.monotonic())
                rule.hit.set()
                return passed
        if kind == "ReadyForQuery":
            if session.doomed:
                self._cut(session, "rst")
                return False
            if session.status == "I":
                session.transaction, session.statement = [], ""
        return True

    def _act(self, session: Session, action: Action, message: bytes) -> bool:
        """Do it; whether the message goes on."""
        if action == "throttle":
            return True
        if action in ("swallow", "abandon"):
            session.doomed = True
            if action == "abandon":
                self._drop(session.client, reset=True)
                session.streams[0].ended = False
                session.streams[1].out.clear()
            return True
        if action in ("stall", "hold"):
            session.stalled = True
            self._register(session)
        elif action in ("client deaf", "server deaf", "server alone"):
            deaf, told = session.client, session.server
            if action != "client deaf":
                deaf, told = told, deaf
            self._write(session)  # what came before has arrived
            if action == "server alone":
                session.server.send(message)
            else:
                acknowledged(deaf)
            silence(deaf)
            self._forget(session)
            self._kept.append(deaf)
            self._drop(told, reset=told is session.client)
        else:
            self._write(session)
            self._cut(session, "rst" if action == "rst" else "fin")
        return False

    def _cut(self, session: Session, how: Literal["rst", "fin"]) -> None:
        self._forget(session)
        for one in (session.client, session.server):
            self._drop(one, reset=how == "rst")

    def _forget(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        for one in (session.client, session.server):
            if one.fileno() >= 0 and one in self._selector.get_map():
                self._selector.unregister(one)

    def _drop(self, one: socket.socket, *, reset: bool) -> None:
        if one.fileno() < 0:
            return
        if one in self._selector.get_map():
            self._selector.unregister(one)
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            # A close with unread bytes would be a reset.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)
                while one.recv(1 << 18):
                    pass
        one.close()
