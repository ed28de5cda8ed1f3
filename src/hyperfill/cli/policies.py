"""`hyperfill policies`: show, hold and release the policies of a hypertable by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App

from hyperfill.cli.options import Json, Target, option, require_target
from hyperfill.errors import UsageError

if TYPE_CHECKING:
    from hyperfill.catalog import Relation
    from hyperfill.holds import Result
    from hyperfill.session import Connection

policies_app = App(name="policies", help="Policies of a hypertable: show them, turn them off, restore them exactly.")

Name = Annotated[
    str | None,
    option("hypertable", "SCHEMA.TABLE on the target, as in SQL."),
]


@policies_app.command
def show(*, target: Target = None, hypertable: Name = None, json: Json = False) -> int:
    """Show the policies of a hypertable and of the aggregates above it, and which of them are held."""
    from hyperfill import preflight_policies, session
    from hyperfill.cli.output import print_json
    from hyperfill.signals import Signals

    conninfo, name = require_target(target), _require(hypertable)
    with Signals(), session.connect(conninfo, "target", application_name="hyperfill/policies") as connection:
        relation = _resolve(connection, name)
        found = preflight_policies.read(connection, relation.oid)
    if json:
        print_json({"state": _state(found), "hypertable": relation.quoted, "policies": found.as_json()})
        return 0
    if found.extension is not None and not found.extension.community:
        print(f"{relation.quoted}: the Apache edition of TimescaleDB has no policies")
    elif not found.jobs:
        print(f"{relation.quoted}: no policies")
    for line, job in zip(found.lines(), found.jobs, strict=True):
        print(line)
        if job.config:
            import json as text

            print(f"  config {text.dumps(job.config, ensure_ascii=False)}")
    return 0


@policies_app.command
def hold(*, target: Target = None, hypertable: Name = None, json: Json = False) -> int:
    """Turn all policies of a hypertable off that are on, note it, and wait until none of them runs."""
    from hyperfill import holds, ledger, session
    from hyperfill.cli.output import say
    from hyperfill.kinds import KINDS
    from hyperfill.signals import Signals

    conninfo, name = require_target(target), _require(hypertable)
    with Signals(), session.connect(conninfo, "target", application_name="hyperfill/policies") as connection:
        relation = _resolve(connection, name)
        _require_rights(connection, relation)
        ledger.create(connection, [relation.oid])
        result, _ = holds.hold(connection, relation, KINDS, backfill=None, say=say)
    _print(relation, result, "turned off", "nothing is turned off: no policy is on", as_json=json)
    if result.held:
        say("  hyperfill policies release turns them on again")
    return 0


@policies_app.command
def release(
    *,
    target: Target = None,
    hypertable: Name = None,
    force: Annotated[bool, option("force", "Although a backfill is unfinished.", negative="")] = False,
    json: Json = False,
) -> int:
    """Turn the held policies of a hypertable on again: those that were on, exactly as they were."""
    from hyperfill import holds, session
    from hyperfill.signals import Signals

    conninfo, name = require_target(target), _require(hypertable)
    with Signals(), session.connect(conninfo, "target", application_name="hyperfill/policies") as connection:
        relation = _resolve(connection, name)
        result = holds.release(connection, relation, force=force)
    _print(relation, result, "turned on", "nothing was held", as_json=json)
    return 0


def _require(hypertable: str | None) -> str:
    if not hypertable:
        raise UsageError("--hypertable is required: SCHEMA.TABLE on the target")
    return hypertable


def _resolve(connection: Connection, name: str) -> Relation:
    from hyperfill import catalog

    found = catalog.resolve(connection, name, "target", "--hypertable")
    return catalog.read_hypertable(connection, catalog.read_server(connection), found).relation


def _require_rights(connection: Connection, relation: Relation) -> None:
    from hyperfill import catalog, preflight_policies

    preflight_policies.require_rights(
        preflight_policies.read(connection, relation.oid), catalog.read_server(connection).user
    )


def _state(found: Any) -> str:
    if found.holds:
        return "held"
    return "on" if any(job.scheduled for job in found.jobs) else "off" if found.jobs else "none"


def _print(relation: Relation, result: Result, verb: str, nothing: str, *, as_json: bool) -> None:
    from hyperfill.cli.output import print_json, say

    for one in result.changed:
        say(f"{verb}: {one}")
    for note in result.notes:
        say(f"note: {note}")
    if not result.changed and not result.notes:
        held = f"{len(result.held)} policies are held already" if result.held else nothing
        say(f"{relation.quoted}: {held}")
    if as_json:
        print_json(
            {
                "state": "held" if result.held else "released" if result.changed else "nothing",
                "hypertable": relation.quoted,
                "changed": result.changed,
                "notes": result.notes,
                "held": [{"job": h.job_id, "kind": h.kind, "relation": h.relation} for h in result.held],
            }
        )
