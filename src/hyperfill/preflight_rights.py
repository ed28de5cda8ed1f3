"""Preflight of rights, row-level security, triggers and foreign keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hyperfill import trust
from hyperfill.catalog import Hypertable, quote_name
from hyperfill.errors import Finding, Refused
from hyperfill.preflight import row
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.survey import Axis


def read_rights(connection: Connection, axis: Axis, role: str) -> list[Finding]:
    """Whether the `role`, source or target, can be read completely."""
    usage, hidden = row(connection, "preflight/read_rights", oid=axis.relation.oid)
    findings = []
    if not usage:
        findings.append(
            Finding("error", "rights", f"this role may not use schema {quote_name(axis.relation.schema)} of the {role}")
        )
    if hidden:
        findings.append(
            Finding(
                "error",
                "row-security",
                f"row-level security on the {role} hides rows of {axis.relation.quoted} from this role",
                hint="use the owner of the table or a role with BYPASSRLS",
            )
        )
    return findings


def target_rights(connection: Connection, hypertable: Hypertable) -> list[Finding]:
    """Whether the hypertable can be filled and a ledger kept."""
    usage, hidden, select, delete, owner, ledger, create, user = row(
        connection, "preflight/target_rights", oid=hypertable.relation.oid
    )
    name, role = hypertable.relation.quoted, quote_name(user)
    missing = [right for right, has in (("SELECT", select), ("DELETE", delete)) if not has]
    findings = []
    if not usage:
        findings.append(
            Finding(
                "error",
                "rights",
                f"role {role} may not use schema {quote_name(hypertable.relation.schema)} of the target",
                hint=f"GRANT USAGE ON SCHEMA {quote_name(hypertable.relation.schema)} TO {role};",
            )
        )
    if missing:
        findings.append(
            Finding(
                "error",
                "rights",
                f"role {role} lacks {', '.join(missing)} on {name}",
                hint=f"GRANT SELECT, INSERT, DELETE ON {name} TO {role};",
            )
        )
    if hidden:
        findings.append(
            Finding(
                "error",
                "row-security",
                f"row-level security on the target hides rows of {name} from this role: they would neither be "
                "deleted nor counted",
                hint="use the owner of the table or a role with BYPASSRLS",
            )
        )
    if not ledger and not create:
        findings.append(
            Finding(
                "error",
                "ledger",
                f"role {role} may not create the ledger (schema hyperfill) in the target",
                hint=f"GRANT CREATE ON DATABASE ... TO {role};",
            )
        )
    elif ledger and not row(connection, "preflight/ledger_rights")[0]:
        findings.append(
            Finding(
                "error",
                "ledger",
                f"role {role} may not use the ledger that another role made",
                hint=f"GRANT USAGE ON SCHEMA hyperfill TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA hyperfill TO "
                f"{role};",
            )
        )
    if ledger:
        try:
            trust.require(connection, [hypertable.relation.oid])
        except Refused as error:
            findings.append(Finding("error", "ledger", error.message, error.hint))
    if not owner:
        findings.append(
            Finding(
                "note",
                "analyze",
                f"role {role} does not own {name}: chunks cannot be analyzed at the end, autovacuum will do it later",
            )
        )
    return findings


@dataclass(frozen=True)
class _TriggerState:
    """User triggers of the hypertable: whether there are any, and any that nothing switches off."""

    any: bool
    unstoppable: bool


def triggers_and_keys(
    connection: Connection, hypertable: Hypertable, replace: bool
) -> tuple[list[Finding], _TriggerState]:
    """What else happens when rows arrive or are deleted, and what is known of user triggers."""
    oid = {"oid": hypertable.relation.oid}
    triggers: list[Any] = connection.execute(query("preflight/triggers"), oid).fetchall()
    keys: list[Any] = connection.execute(query("preflight/foreign_keys"), oid).fetchall()
    findings = []
    if triggers:
        names = ", ".join(quote_name(t[0]) for t in triggers)
        findings.append(
            Finding(
                "warning", "triggers", f"triggers on the target fire for every row that is deleted or copied: {names}"
            )
        )
    ours = sorted({f"{quote_name(k[3])}.{quote_name(k[2])}" for k in keys if k[1]})
    if ours:
        findings.append(
            Finding(
                "warning",
                "foreign-key",
                f"every copied row is checked against {', '.join(ours)}: the rows referenced must be there already",
            )
        )
    findings += _referencing([k for k in keys if not k[1]], replace)
    return findings, _TriggerState(bool(triggers), any(t[2] for t in triggers))


_ON_DELETE = {"c": "deleted", "n": "set to NULL", "d": "set to their default"}


def _referencing(keys: list[Any], replace: bool) -> list[Finding]:
    """Foreign keys of other tables that point to the hypertable: what a window's DELETE would do to them."""
    findings = []
    changed = [f"{quote_name(k[3])}.{quote_name(k[2])} ({_ON_DELETE[k[4]]})" for k in keys if k[4] in _ON_DELETE]
    if changed:
        findings.append(
            Finding(
                "warning" if replace else "error",
                "referenced",
                f"rows of other tables would be changed when rows of the hypertable are replaced: {', '.join(changed)}",
                hint="drop those foreign keys until the backfill is done; --replace goes on all the same",
            )
        )
    if len(changed) < len(keys):
        findings.append(
            Finding(
                "warning",
                "referenced",
                "other tables reference the hypertable: deleting a referenced row fails its window",
            )
        )
    return findings
