"""What must work before anything heavy is imported: `--json` promises one object, whatever happens."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)

_SECRETS = (
    # key=value, in libpq's words or a URI's parameters
    re.compile(r"""((?:password|secret|client_key|server_key)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)""", re.IGNORECASE),
    # scheme://user:password@: a password that should have been written in percents may hold anything
    re.compile(r"(://[^:@/\s]*:)\S*(?=@)"),
)


def hide_secrets(text: str) -> str:
    """Text that may quote a command line, without passwords: a conninfo whose quotes were forgotten is no option."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


class _Unheard(io.FileIO):
    """Standard output or error whose reader may leave: a pager, `head`, a terminal that is closed."""

    def __init__(self, descriptor: int, *, only_words: bool = False) -> None:
        """`only_words`: not even a full disk is a reason to stop."""
        super().__init__(descriptor, "w", closefd=False)
        self._only_words = only_words

    def write(self, data: Any) -> int:
        """What nobody reads any more is lost, and no reason to stop or to end with another code."""
        try:
            return super().write(data)
        except OSError as error:
            closed = error.errno == errno.EPIPE
            hung_up = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
            if closed or hung_up:
                self.discard()
            elif not self._only_words:
                raise
            return memoryview(data).nbytes

    def discard(self) -> None:
        """Let everything from here on go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def behind(error: BaseException | None, kind: type[E]) -> E | None:
    """The first error of a kind among an error and what it was raised from.

    Before Python 3.12 whatever is raised while a class sets the names of its attributes becomes a RuntimeError.
    """
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def open_what_is_closed() -> None:
    """Standard streams that whoever started us has closed lead nowhere.

    Otherwise the next connection or pipe would get the number of one of them, and be written into.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # or worker processes would begin without it
        if getattr(sys, name) is None:
            raw = io.FileIO(number, "w" if number else "r", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8"))


def let_readers_leave() -> None:
    """Replace standard output and error by streams that do not mind when nobody reads them.

    Nor does standard error when it cannot be written at all.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            raw = _Unheard(stream.fileno(), only_words=name == "stderr")
            wrapped = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, wrapped)


def flush() -> str | None:
    """Write out what is left of standard output; why that is impossible, as where a disk is full."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _Unheard(sys.stdout.fileno()).discard()  # or the interpreter would try once more
        return str(error)
    return None


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line or the environment asks for JSON, also where the rest of it cannot be read."""
    options = list(arguments)
    if options[:1] == ["copy"]:
        return False  # another program's flags, and no variable of ours
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options or os.environ.get("HYPERFILL_JSON", "").lower() in ("1", "true", "yes", "y")


def print_failure(state: str, error: str, hint: str | None = None, findings: Sequence[object] = ()) -> None:
    """The object for a command that has no result."""
    print_json({"state": state, "error": error, "hint": hint, "findings": list(findings)})


class Answer:
    """Whether it is decided how the command ends: from there on a signal has nothing to end, and nothing to change."""

    decided: ClassVar[bool] = False


def print_json(value: Any) -> None:
    """One object on stdout. Bytes of the command line that are no text are in it as escapes, which UTF-8 can hold."""
    Answer.decided = True
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
