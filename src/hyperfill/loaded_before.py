"""Which load of the ledger a command means, and which it must not touch."""

from __future__ import annotations

from typing import Any

from hyperfill import ledger, tiling
from hyperfill.errors import LedgerConflict, describe
from hyperfill.ledger import Definition, Entry, is_forgotten
from hyperfill.preparing import Prepared
from hyperfill.session import Connection
from hyperfill.spec import LoadSpec


def find_load(target: Connection, prepared: Prepared) -> Entry | None:
    """The load in the ledger that this command means; None for a new one.

    Raises `LedgerConflict` where a file or an option changed since an unfinished load began, and where the range was
    filled by something else.
    """
    definition, spec, time_type = prepared.definition, prepared.spec, prepared.time_type
    assert definition is not None and time_type is not None and isinstance(spec, LoadSpec)
    entries = ledger.entries(target, hypertable_oid=definition.hypertable_oid)
    if spec.forget:
        # Whoever asks for this keeps account of his loads himself, but not of backfills.
        _check_range([e for e in entries if e.kind != "load"], definition, prepared, again=set())
        return None
    prepared.superseded = {
        e.id for e in entries if e.untouched and is_forgotten(target, e) and _is_this(e, definition, spec.import_id)
    }
    entries = [e for e in entries if not is_forgotten(target, e)]
    mine = [e for e in entries if e.kind == "load" and _is_this(e, definition, spec.import_id)]
    for entry in mine:
        different = _differences(entry, definition)
        if not entry.finished:
            if different:
                raise LedgerConflict(
                    f"load {entry.id} of {_paths(entry)} is unfinished, and is not the same:\n" + _describe(different),
                    hint="run it with its own options and files to finish it, or give it up: hyperfill clean "
                    f"--backfill {entry.id} --force (the rows it loaded stay)",
                )
            if _is_stream(entry) and definition.range_end is None:
                raise LedgerConflict(
                    f"load {entry.id} of standard input was interrupted after {entry.rows_copied:,} rows, and cannot "
                    "be resumed: nobody knows which they were",
                    hint="remove those rows, then give it up: hyperfill clean --backfill "
                    f"{entry.id} --force; with --start and --end a load can begin anew",
                )
            tiling.check_windows(target, entry, time_type)
            return entry
        if spec.import_id is not None and different and not spec.again:
            raise LedgerConflict(
                f"import {spec.import_id!r} is load {entry.id}, of other files or options:\n" + _describe(different),
                hint="another --import-id is another import",
            )
    # Those of the same range, with whatever options: the caller looks at every byte, then at the options.
    finished = [e for e in mine if e.finished and e.id not in prepared.unlike and _same_range(e, definition)]
    if finished and not spec.again:
        return finished[-1]
    _check_range(entries, definition, prepared, again={e.id for e in finished})
    return None


def check_options(entry: Entry, definition: Definition) -> None:
    """Raise `LedgerConflict` if a finished load brought the same files with other options: they are there already."""
    different = _differences(entry, definition)
    if different:
        raise LedgerConflict(
            f"load {entry.id} has brought these files with other options:\n" + _describe(different),
            hint="--again loads them anew, beside what is there",
        )


def _same_range(entry: Entry, definition: Definition) -> bool:
    return (entry.range_start, entry.range_end) == (definition.range_start, definition.range_end)


def is_untouched(entry: Entry, definition: Definition) -> bool:
    """Whether the files of a finished load are the same by name, size and time, so that nobody need read them."""
    return _files(entry) == _files(definition)


def _check_range(entries: list[Entry], definition: Definition, prepared: Prepared, again: set[int]) -> None:
    """Raise `LedgerConflict` where this load's range, or its rows, would meet what another one brings."""
    assert prepared.time_type is not None
    span = definition.span(prepared.time_type)
    for entry in entries:
        if entry.id in again or not entry.span(prepared.time_type).overlaps(span):
            continue
        if not entry.finished and (definition.range_end is not None or entry.kind != "load" or entry.range_end):
            raise LedgerConflict(
                f"backfill {entry.id} ({entry.source_relation}, {entry.bounds}) is unfinished, and fills the same "
                "range",
                hint=f"finish it with its own command, or give it up: hyperfill clean --backfill {entry.id} --force",
            )
        if entry.finished and definition.range_end is not None and not prepared.spec.replace:
            raise LedgerConflict(
                f"the range overlaps backfill {entry.id}, which brought {entry.source_relation} ({entry.bounds})",
                hint="clearing the range would wipe what came from there; --replace does it",
            )


def _is_this(entry: Entry, definition: Definition, import_id: str | None) -> bool:
    """Whether an entry is of the same import, or of one of these files."""
    if import_id is not None or entry.settings.get("import_id") is not None:
        return bool(entry.settings.get("import_id") == import_id)
    theirs, ours = _files(entry), _files(definition)
    if entry.finished:
        # The same content wherever it lies.
        return [_content(f) for f in theirs] == [_content(f) for f in ours] and not _is_stream(entry)
    names = {f["path"] for f in theirs} & {f["path"] for f in ours}
    return bool(names) or (not _is_stream(entry) and bool({_content(f) for f in theirs} & {_content(f) for f in ours}))


def _differences(entry: Entry, definition: Definition) -> dict[str, tuple[Any, Any]]:
    """What is asked for otherwise. Of what is finished the names of files no longer matter, only what is in them."""
    different = entry.differences(definition)
    if "files" in different:
        # Of what is finished, what is in the files; of the rest, of which half is unread, also when they were written.
        key = _content if entry.finished else _unchanged
        if [key(f) for f in _files(entry)] == [key(f) for f in _files(definition)]:
            del different["files"]
    # What a person called the files is told by their paths; how finished ones were cut does not matter any more.
    for name in ("source_relation", *(("batch_bytes", "batch_rows", "forget") if entry.finished else ())):
        different.pop(name, None)
    return different


def _files(definition: Definition) -> list[dict[str, Any]]:
    return list(definition.settings.get("files", []))


def _content(file: dict[str, Any]) -> tuple[Any, Any]:
    return file.get("size"), file.get("edges")


def _unchanged(file: dict[str, Any]) -> tuple[Any, ...]:
    return (*_content(file), file.get("modified"), file["path"] if "size" not in file else None)


def _is_stream(entry: Entry) -> bool:
    return any("size" not in file for file in _files(entry))


def _paths(entry: Entry) -> str:
    paths = [str(f["path"]) for f in _files(entry)]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _describe(different: dict[str, tuple[Any, Any]]) -> str:
    """The differences, files one by one."""
    rest = {k: v for k, v in different.items() if k not in ("files", "source_relation")}
    lines = [describe(rest)] if rest else []
    if "files" in different:
        was, now = ({f["path"]: f for f in files or []} for files in different["files"])
        lines += [f"  {path}: was not part of it" for path in now if path not in was]
        lines += [f"  {path}: is missing now" for path in was if path not in now]
        for path in now:
            if path in was and was[path] != now[path]:
                changed = [k for k in ("size", "modified", "edges") if was[path].get(k) != now[path].get(k)]
                lines.append(f"  {path}: changed since ({', '.join(_FIELDS[k] for k in changed) or 'its order'})")
        if list(was) != list(now) and set(was) == set(now):
            lines.append("  the files are in another order")
    return "\n".join(lines)


_FIELDS = {"size": "its size", "modified": "the time it was last written", "edges": "its content"}
