"""`hyperfill status` and `hyperfill clean`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import psycopg

from hyperfill import catalog, compressed, holds, ledger, session, trust
from hyperfill.cli.output import print_json, say
from hyperfill.errors import Interrupted, Refused, UsageError, blamed, first_line
from hyperfill.progress import Rate, Snapshot, entry_json, summary, take
from hyperfill.signals import Signals

_EVERY = 1.0


def status(target: str, *, as_json: bool, watch: bool, hypertables: list[str] | None = None) -> int:
    """Show the backfills of a target, on any machine; with `watch` until nothing is unfinished.

    `hypertables`: only those that fill one of these, of each range the newest.
    """
    if watch and as_json:
        raise UsageError("--watch and --json exclude each other: --json prints exactly one object")
    with Signals(), session.connect(target, "target", application_name="hyperfill/status") as connection:
        wanted = None if hypertables is None else _newest(connection, hypertables)
        if watch:
            return _watch(connection, wanted)
        snapshot = take(connection, wanted) if ledger.exists(connection) else Snapshot((), (), 0.0)
        if as_json:
            print_json(status_json(snapshot))
        elif not snapshot.entries:
            say("the ledger of this target is empty: no backfill has been started")
        else:
            from rich.console import Console

            from hyperfill.cli.terminal import render

            # In a pipe nothing is wrapped: lines are for grep there.
            Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(render(snapshot))
            for entry in snapshot.entries:
                for failed in ledger.failed_windows(connection, entry.id)[:10]:
                    place = f" ({failed['context']})" if failed.get("context") else ""
                    print(
                        f"  #{entry.id} window {failed['window']} [{failed['lower']}, {failed['upper']}) failed"
                        f"{blamed(failed)}: {failed.get('message')}{place}"
                    )
    return 0


def _newest(connection: session.Connection, names: list[str]) -> list[int]:
    """The ids of the newest backfill of each range of these hypertables."""
    if not ledger.exists(connection):
        return []
    found: dict[tuple[int, str | None, str | None], int] = {}
    for name in names:
        oid = catalog.resolve(connection, name, "target", "hypertable").oid
        for entry in ledger.entries(connection, hypertable_oid=oid):
            if entry.kind == "repair" and entry.finished:
                continue  # of what another one has filled
            found[(oid, entry.range_start, entry.range_end)] = entry.id
    return sorted(found.values())


def status_json(snapshot: Snapshot) -> dict[str, Any]:
    """All backfills of a target; `state` is that of the whole."""
    unfinished = any(not e.finished for e in snapshot.entries)
    state = "incomplete" if unfinished else "done" if snapshot.entries else "nothing"
    return {"state": state, "backfills": [entry_json(e, snapshot.activity) for e in snapshot.entries]}


def _watch(connection: session.Connection, wanted: list[int] | None) -> int:
    from rich.console import Console
    from rich.live import Live

    from hyperfill.cli.terminal import render

    rate = Rate()
    if not ledger.exists(connection):
        say("the ledger of this target is empty: no backfill has been started")
        return 0
    live = Live(console=Console(highlight=False), refresh_per_second=4) if sys.stdout.isatty() else None
    if live:
        live.start()
    try:
        while True:
            snapshot = take(connection, wanted)
            # What is finished would only hide how far the rest is.
            open_now = tuple(e for e in snapshot.entries if not e.finished)
            snapshot = replace(snapshot, entries=open_now or snapshot.entries)
            rate.add(snapshot)
            if live:
                live.update(render(snapshot, rate))
            else:
                print(summary(snapshot, rate), flush=True)
            if all(e.finished for e in snapshot.entries):
                return 0
            time.sleep(_EVERY)
    except Interrupted as interrupted:
        return interrupted.exit_code  # whoever only watches leaves nothing undone
    finally:
        if live:
            live.stop()


def clean(target: str, *, backfill: int | None, force: bool) -> int:
    """Remove finished backfills from the ledger, with `force` unfinished ones too."""
    if backfill is not None and not 0 < backfill < 2**63:
        raise Refused(f"the ledger has no backfill {backfill}")
    with Signals(), session.connect(target, "target", application_name="hyperfill/clean") as connection:
        entries = (
            ledger.entries(connection, ids=None if backfill is None else [backfill])
            if ledger.exists(connection)
            else []
        )
        if backfill is not None and not entries:
            raise Refused(f"the ledger has no backfill {backfill}")
        kept = [e for e in entries if not (e.finished or force or ledger.is_forgotten(connection, e))]
        if backfill is not None and kept:
            raise Refused(
                f"backfill {backfill} is unfinished ({kept[0].done} of {kept[0].total} windows are done)",
                hint="finish it with its run command, or give it up with --force: the rows it moved stay",
            )
        removed = [e for e in entries if e not in kept]
        if removed:
            # What their hypertables are is said by the ledger alone: that is no reason to trust its owner.
            trust.require(connection, [])
        for entry in removed:
            open_chunks = compressed.not_in_order(connection, entry.id)
            try:
                ledger.remove(connection, entry)
            except psycopg.errors.InsufficientPrivilege as error:
                raise Refused(
                    f"this role may not remove backfills: {first_line(error)}",
                    hint="GRANT DELETE ON ALL TABLES IN SCHEMA hyperfill TO the_role;",
                ) from None
            say(f"removed backfill {entry.id} ({entry.source_relation} to {entry.hypertable}) from the ledger")
            if open_chunks:
                say(f"warning: chunks that were compressed before are partly so now: {', '.join(open_chunks[:10])}")
                say("  compress_chunk(chunk, true) compresses them again")
        for hypertable in sorted({e.hypertable for e in removed}):
            oid = next(e.hypertable_oid for e in removed if e.hypertable == hypertable)
            held = [h for h in holds.read(connection, oid) if not h.backfills]
            if held:
                say(f"warning: still held, which nothing is going to release: {', '.join(f'the {h}' for h in held)}")
                say(f"  {holds.release_command(hypertable)}")
        if not removed:
            say("nothing to remove" + (f": {len(kept)} unfinished (--force removes them too)" if kept else ""))
    return 0
