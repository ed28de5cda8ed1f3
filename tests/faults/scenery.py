"""What a round is played on: a random source table, its hypertable, an overlap that was dual-written differently."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.fixtures import scenes
from tests.fixtures.community import make_policies, whole_jobs
from tests.fixtures.pair import connect

COLUMNS = "time, n, device, value, note"
APPLICATION = 10**6  # rows of the dual-writer have this n and above
_ORIGIN = "2024-01-01 00:00:00+00"
_AFTER = 12  # rows at or after T that are there before the round begins


@dataclass
class Scene:
    """One table `public.m` on both sides. Places are seconds after an origin, or plain integers of a bigint column."""

    source: str  # conninfos
    target: str
    seed: int
    integer: bool
    source_kind: str  # plain, partitioned, hypertable
    key: str | None
    indexed: bool
    rows: int
    chunk: int  # length of a chunk
    span: int  # places of the rows: from 0 to here, exclusive
    end: int  # T
    start: int | None
    gap: tuple[int, int]  # a stretch without rows
    overlap: int
    options: list[str]
    policies: bool = False  # on a server with the community edition
    jobs: dict[int, tuple[str, str | None]] = field(default_factory=dict)  # of policies, as they were
    compressed: set[str] = field(default_factory=set)  # chunks that were

    def __str__(self) -> str:
        start = "" if self.start is None else f", from {self.start}"
        return (
            f"{self.rows} rows {self.source_kind}/{'bigint' if self.integer else 'timestamptz'}, "
            f"key {self.key or 'none'}{'' if self.indexed else ', no index'}, chunks of {self.chunk} in {self.span}"
            f"{start}, overlap {self.overlap}, {' '.join(self.options)}"
        )

    def at(self, place: int | str) -> str:
        """The SQL of a place, or of a column of places."""
        return f"({place})::bigint" if self.integer else f"('{_ORIGIN}'::timestamptz + ({place}) * interval '1 second')"

    @property
    def inside(self) -> str:
        """The condition of the range that is moved."""
        return self.below if self.start is None else f"time >= {self.at(self.start)} AND {self.below}"

    @property
    def below(self) -> str:
        return f"time < {self.at(self.end)}"

    @property
    def outside(self) -> str:
        """The condition of rows that no window may touch."""
        return self.after if self.start is None else f"time < {self.at(self.start)} OR {self.after}"

    @property
    def after(self) -> str:
        return f"time >= {self.at(self.end)}"

    def command(self) -> list[str]:
        """The command of all runs of the round."""
        bounds = ["--end", self._text(self.end)]
        if self.start is not None:
            bounds += ["--start", self._text(self.start)]
        where = ["--source", self.source, "--target", self.target, "--table", "public.m"]
        return ["run", *where, *bounds, *self.options, "--json"]

    def _text(self, place: int) -> str:
        return str(place) if self.integer else str(scenes.scalar(self.source, f"SELECT ({self.at(place)})::text"))


def choose(rng: random.Random, seed: int, source: str, target: str, *, policies: bool) -> Scene:
    """A scene; nothing is made yet. Draws the same numbers whatever the conninfos are."""
    rows = rng.randint(2000, 7000)
    span = rng.randint(20, 90) * (14400 if policies else 3600)
    chunk = span // rng.randint(3, 14) + rng.randint(0, 100)
    # Often in the middle of a chunk, which windows and the dual-writer then share; sometimes where one ends.
    end = rng.randint(span // 2, span - 1)
    if rng.random() < 0.25:
        end = max(chunk, end // chunk * chunk)
    start = rng.choice([None, None, rng.randint(1, span // 4)])
    gap_begins = rng.randint(0, span)
    indexed = rng.random() < 0.85
    seconds = rng.uniform(1.5, 4.0)
    options = ["--jobs", str(rng.randint(1, 4))]
    options += ["--max-window-rows", str(rng.choice([60, 150, 400, 1000]))]
    options += ["--max-rate", f"{max(20, int(rows * 0.075 / seconds))}kB", "--order", rng.choice(["oldest", "newest"])]
    if not indexed:
        options.append("--allow-seqscan")
    kind = rng.choice(["plain", "partitioned", "hypertable"])
    key = rng.choice([None, None, "(time, n)", "(n, time, device)"])
    integer = rng.random() < 0.35
    return Scene(
        source,
        target,
        seed,
        integer and not policies,
        kind,
        None if policies else key,
        indexed or kind == "hypertable",  # create_hypertable() makes an index
        rows,
        24 * 3600 if policies else chunk,
        span,
        end,
        start,
        (gap_begins, gap_begins + rng.randint(0, span // 3)),
        rng.choice([0, rows // 20, rows // 4]),
        options,
        policies,
    )


def make(scene: Scene, rng: random.Random) -> None:
    """The tables and rows of both sides, and on a server with the community edition policies and compressed chunks."""
    _make_source(scene)
    if scene.policies:
        with connect(scene.target) as target:
            make_policies(target)
        scenes.execute(scene.target, "ALTER TABLE m ADD COLUMN n bigint, ADD COLUMN note text")
    else:
        scenes.execute(
            scene.target,
            f"CREATE TABLE m ({_columns(scene)})",
            f"SELECT create_hypertable('m', 'time', chunk_time_interval => {_length(scene)})",
        )
    _dual_write(scene, rng)
    if scene.policies:
        _compress_some(scene, rng)
        with connect(scene.target) as target:
            scene.jobs = whole_jobs(target)


def _columns(scene: Scene) -> str:
    time = "bigint" if scene.integer else "timestamptz"
    key = f", PRIMARY KEY {scene.key}" if scene.key else ""
    return f"time {time} NOT NULL, n bigint NOT NULL, device int NOT NULL, value float8, note text{key}"


def _length(scene: Scene) -> str:
    return str(scene.chunk) if scene.integer else f"interval '{scene.chunk} seconds'"


def _make_source(scene: Scene) -> None:
    before, behind = "", []
    if scene.source_kind == "partitioned":
        before = " PARTITION BY RANGE (time)"
        step = scene.span // 3 + 1
        for number in range(3):
            lower, upper = scene.at(number * step), scene.at((number + 1) * step)
            behind.append(f"CREATE TABLE m_{number} PARTITION OF m FOR VALUES FROM ({lower}) TO ({upper})")
        behind.append("CREATE TABLE m_rest PARTITION OF m DEFAULT")
    elif scene.source_kind == "hypertable":
        behind.append(f"SELECT create_hypertable('m', 'time', chunk_time_interval => {_length(scene)})")
        before = ""
    if scene.source_kind == "hypertable":
        scenes.execute(scene.source, "CREATE EXTENSION timescaledb")
    # 48271 is a prime, and no span is as long as that many rows: places that look random, each at most once.
    places = f"SELECT g, (g::bigint * 48271) % {scene.span} AS place FROM generate_series(1, {scene.rows}) AS g"
    note = "CASE g % 9 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE repeat('x', g % 50) || g END"
    scenes.execute(
        scene.source,
        f"CREATE TABLE m ({_columns(scene)}){before}",
        *behind,
        *(["CREATE INDEX ON m (time)"] if scene.indexed and scene.source_kind != "hypertable" else []),
        f"INSERT INTO m SELECT {scene.at('place')}, g, g % 5, g / 7.0, {note} FROM ({places}) AS p "
        f"WHERE place < {scene.end} AND NOT (place >= {scene.gap[0]} AND place < {scene.gap[1]})",
        # The last possible moment before T.
        f"INSERT INTO m SELECT {scene.at(scene.end)} - {'1' if scene.integer else 'interval $$1 microsecond$$'}, "
        "-1, 0, 0, 'last'",
    )
    scenes.execute(scene.source, _late(scene), "ANALYZE m")


def _late(scene: Scene) -> str:
    """Rows at T and after it, the same on both sides."""
    return (
        f"INSERT INTO m (time, n, device, value, note) SELECT {scene.at(f'{scene.end} + 7 * i')}, -100 - i, i, i, "
        f"'late' FROM generate_series(0, {_AFTER - 1}) AS i"
    )


def _dual_write(scene: Scene, rng: random.Random) -> None:
    """The newest rows below T, and some of all others, on the target with other values; and rows from T on."""
    chosen = scenes.rows(
        scene.source,
        f"SELECT time::text, n, device, -1.0, 'dual' FROM m WHERE {scene.below} ORDER BY time DESC, n",
    )
    newest = chosen[: scene.overlap]
    older = chosen[scene.overlap :]
    others = rng.sample(older, min(scene.overlap // 5, len(older)))
    insert = "INSERT INTO m (time, n, device, value, note) VALUES (%s, %s, %s, %s, %s)"
    with connect(scene.target) as target:
        with target.transaction():
            target.cursor().executemany(insert, newest + others)
        target.execute(_late(scene))


def _compress_some(scene: Scene, rng: random.Random) -> None:
    chunks = [r[0] for r in scenes.rows(scene.target, "SELECT c::text FROM show_chunks('m') AS c ORDER BY 1")]
    chosen = [c for c in chunks if rng.random() < 0.5]
    for chunk in chosen:
        scenes.execute(scene.target, f"SELECT compress_chunk('{chunk}')")
    scene.compressed = set(chosen)


def fingerprint(conninfo: str, where: str) -> tuple[Any, ...]:
    """Count and hash of the rows of `m`."""
    return scenes.fingerprint(conninfo, where, table="m", columns=COLUMNS)
