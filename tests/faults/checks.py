"""What must be true after a round, whatever was done in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hyperfill.sql import query
from tests.faults.application import Application
from tests.faults.runs import Run
from tests.faults.scenery import APPLICATION, Scene, fingerprint
from tests.fixtures import scenes
from tests.fixtures.community import whole_jobs
from tests.fixtures.pair import connect
from tests.fixtures.scenes import until

# What the application and TimescaleDB make (chunks) and the ledger are looked at by themselves.
_OBJECTS = (
    "SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname !~ '^(pg_toast|pg_catalog|_timescaledb|hyperfill|information_schema)' ORDER BY 1"
)
_LOCKS = (
    "SELECT l.locktype, l.mode, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
    "WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'"
)
_TEMPORARY = "SELECT relname FROM pg_class WHERE relpersistence = 't'"
_PARTIAL = 8  # a bit of a chunk's status


@dataclass
class Before:
    """How things were before the first run, and rows that no run may touch, looked at before each of them."""

    scene: Scene
    moved: tuple[Any, ...] = ()
    replaced: int = 0
    objects: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    untouched: set[tuple[Any, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        scene = self.scene
        self.moved = fingerprint(scene.source, scene.inside)
        self.replaced = scenes.scalar(scene.target, f"SELECT count(*) FROM m WHERE {scene.inside}")
        self.objects = {side: scenes.rows(side, _OBJECTS) for side in (scene.source, scene.target)}

    def look(self) -> None:
        """Note the rows outside the range as they are stored now."""
        self.untouched |= _outside(self.scene)


def _outside(scene: Scene) -> set[tuple[Any, ...]]:
    if scene.policies:
        # A chunk that was compressed is compressed again: its rows lie elsewhere then, but must be the same.
        return set(scenes.rows(scene.target, f"SELECT t::text FROM m AS t WHERE {scene.outside}"))
    return set(scenes.physical(scene.target, scene.outside, table="m"))


def _no_sessions(conninfo: str) -> bool:
    return not scenes.sessions(conninfo)


def problems(before: Before, application: Application, runs: Sequence[Run]) -> list[str]:
    """Everything that is not as it must be, when the last run ended with 0 and the application has left."""
    scene = before.scene
    found = []

    def expect(what: str, value: object, wanted: object) -> None:
        if value != wanted:
            found.append(f"{what}: {str(value)[:300]}, not {str(wanted)[:300]}")

    until(lambda: not any(run.members() for run in runs), 15, "the processes to end")
    for side, name in ((scene.source, "source"), (scene.target, "target")):
        until(partial(_no_sessions, side), 15, f"the {name} to end hyperfill's sessions")
        expect(f"locks on the {name}", scenes.rows(side, _LOCKS), [])
        expect(f"temporary objects on the {name}", scenes.rows(side, _TEMPORARY), [])
        expect(f"prepared transactions on the {name}", scenes.rows(side, "SELECT gid FROM pg_prepared_xacts"), [])
        expect(f"objects on the {name}", scenes.rows(side, _OBJECTS), before.objects[side])
    expect("a ledger on the source", scenes.has_ledger(scene.source), False)
    for run in runs:
        found += [f"{run.folder.name}: {problem}" for problem in run.problems()]

    expect("source, below T", fingerprint(scene.source, scene.inside), before.moved)
    expect("target, below T", fingerprint(scene.target, scene.inside), before.moved)
    expect("target, from T on", fingerprint(scene.target, scene.after), fingerprint(scene.source, scene.after))
    written = scenes.scalar(scene.target, f"SELECT count(*) FROM m WHERE n >= {APPLICATION}")
    expect("rows of the application", written, application.written)
    gone = before.untouched - _outside(scene)
    expect("rows outside the range that were written again", sorted(gone)[:3], [])
    found += [f"the application got {e}" for e in application.errors if e in ("40P01", "40001", "23505")]

    found += _ledger(before)
    if scene.policies:
        found += _policies(scene, _left_partial(runs))
    return found


def _ledger(before: Before) -> list[str]:
    target = before.scene.target
    found = []
    ended = scenes.rows(target, "SELECT phase, finished_at IS NOT NULL FROM hyperfill.backfills")
    if ended != [("done", True)]:
        found.append(f"the ledger's backfills: {ended}")
    left = scenes.rows(target, "SELECT id, state, error FROM hyperfill.windows WHERE state <> 'done'")
    if left:
        found.append(f"windows that are not done: {left[:3]}")
    figures = scenes.rows(target, "SELECT sum(rows_copied), sum(rows_deleted) FROM hyperfill.windows")[0]
    if figures != (before.moved[0], before.replaced):
        found.append(f"rows copied and deleted by the ledger: {figures}, not {(before.moved[0], before.replaced)}")
    if scenes.scalar(target, "SELECT count(*) FROM hyperfill.comparisons WHERE NOT equal"):
        found.append("the ledger knows of windows that differ")
    tables = set(re.findall(r"CREATE TABLE hyperfill\.(\w+)", query("ledger/schema")))
    relations = scenes.rows(
        target, "SELECT relname FROM pg_class WHERE relnamespace = 'hyperfill'::regnamespace AND relkind = 'r'"
    )
    if {r[0] for r in relations} != tables:
        found.append(f"tables in the ledger's schema: {relations}")
    return found


def _left_partial(runs: Sequence[Run]) -> str:
    """What the runs that ended with 0 reported of chunks that they could not compress again."""
    reports = [run.report for run in runs if run.process.returncode == 0]
    return "\n".join(f["message"] for r in reports for f in r["findings"] if f["code"] == "recompress")


def _policies(scene: Scene, reported: str) -> list[str]:
    found = []
    with connect(scene.target) as target:
        jobs = whole_jobs(target)
    if jobs != scene.jobs:
        changed = {k: (scene.jobs.get(k), jobs.get(k)) for k in scene.jobs.keys() | jobs.keys()}
        found.append(f"jobs: { ({k: v for k, v in changed.items() if v[0] != v[1]}) }")
    held = scenes.scalar(scene.target, "SELECT count(*) FROM hyperfill.holds WHERE released_at IS NULL")
    if held:
        found.append(f"{held} policies are still held")
    # Of the chunk with T the application may have made a partial one meanwhile.
    states = scenes.rows(
        scene.target,
        "SELECT c::text, _timescaledb_functions.chunk_status(c) FROM timescaledb_information.chunks AS i, "
        "LATERAL (SELECT format('%%I.%%I', i.chunk_schema, i.chunk_name)::regclass AS c) AS k "
        f"WHERE i.hypertable_schema = 'public' AND i.hypertable_name = 'm' AND i.range_end <= {scene.at(scene.end)} "
        "AND c::text = ANY (%s)",
        list(scene.compressed),
    )
    plain = [s for s in states if (not s[1] & 1 or s[1] & _PARTIAL) and s[0] not in reported]
    if plain:
        found.append(f"chunks that were compressed and are not, or partly: {plain}")
    # Buckets that lie in the range as a whole.
    hour = "time_bucket(interval '1 hour', {})"
    lower = "" if scene.start is None else f"t >= {hour.format(scene.at(scene.start + 3600))} AND "
    inside = f"{lower}t < {hour.format(scene.at(scene.end))}"
    live = scenes.rows(
        scene.target,
        f"SELECT t, n FROM (SELECT {hour.format('time')} AS t, count(*) AS n FROM m GROUP BY 1) AS b WHERE {inside}",
    )
    kept = scenes.rows(scene.target, f"SELECT t, n FROM hourly WHERE {inside}")
    if set(live) != set(kept):
        found.append(f"hours of the aggregate that are not what the rows say: {sorted(set(live) ^ set(kept))[:4]}")
    return found
