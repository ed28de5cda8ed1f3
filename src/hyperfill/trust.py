"""Whether schema `hyperfill` in the target is a ledger of ours, and belongs to somebody whose tables may be written.

Whoever may create a schema can be there before us. What a view or a trigger of his does is done with our rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from hyperfill.catalog import quote_name
from hyperfill.errors import Refused
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query

_SHOWN = 5


def read_version(connection: Connection, known: int) -> int | None:
    """The version of the ledger, None where there is none. `known`: the newest version whose tables we know.

    Raises `Refused` where the schema is something else, before anything of it is read, and where this role may not.
    """
    row: Any = connection.execute(query("ledger/shape")).fetchone()
    if row is None:
        return None
    wrong, missing, readable = row
    version = None
    if not wrong and readable:
        try:
            found: Any = connection.execute("SELECT version FROM hyperfill.ledger").fetchone()
        except psycopg.errors.InsufficientPrivilege:
            raise Refused(
                "this role may not read the ledger (schema hyperfill in the target)",
                hint="GRANT USAGE ON SCHEMA hyperfill TO the_role; GRANT ALL ON ALL TABLES IN SCHEMA hyperfill TO "
                "the_role;",
            ) from None
        version = None if found is None else int(found[0])
        if version is not None and version > known:
            return version  # its tables may be others
    if version is None or missing:
        wrong = wrong or [f"{name} is missing" for name in missing] or ["table ledger has no version"]
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise Refused(
            f"schema hyperfill is not a ledger of hyperfill: {', '.join(wrong[:_SHOWN])}{more}",
            hint="nothing of it was read; whoever made it can rename it (ALTER SCHEMA hyperfill RENAME TO ...), and "
            "hyperfill makes its own",
        )
    return version


def require(connection: Connection, hypertables: Sequence[int]) -> None:
    """Raise `Refused` where the ledger belongs to a role that this one has no reason to trust.

    `hypertables`: oids of those that are filled. Their owners are trusted: a trigger of theirs could do the same.
    """
    owners, me = fetch_one(connection, query("ledger/owners"), {"hypertables": list(hypertables)})
    if owners:
        raise Refused(
            f"the ledger (schema hyperfill) belongs to {', '.join(owners)}, and is not written to by role "
            f"{quote_name(me)}: what its owner adds to it would run with the rights of this role",
            hint=f"connect as its owner (options='-c role={owners[0]}' in the conninfo), or let a superuser give it "
            "away: ALTER SCHEMA hyperfill OWNER TO ..., and ALTER TABLE ... OWNER TO ... for its tables",
        )
