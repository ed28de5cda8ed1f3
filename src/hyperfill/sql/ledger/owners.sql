-- Owners of the ledger of which this role cannot know that they may do what it may: whatever they add to their tables
-- (a trigger, a default) runs with its rights when it writes. To be trusted is who has other ways to that: superusers,
-- the owners of the database and of the hypertables that are filled, and roles of which this one is a member.
SELECT coalesce(pg_catalog.array_agg(DISTINCT pg_catalog.quote_ident(r.rolname)), '{}'), current_user::text
FROM (
    SELECT n.nspowner FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'hyperfill'
  UNION
    SELECT c.relowner
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'hyperfill'
) AS owner (oid)
JOIN pg_catalog.pg_roles AS r ON r.oid = owner.oid
JOIN pg_catalog.pg_roles AS me ON me.rolname = current_user
JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
WHERE NOT r.rolsuper
  AND r.rolname NOT IN (current_user, 'pg_database_owner')
  AND (me.rolsuper OR NOT pg_catalog.pg_has_role(r.oid, 'MEMBER'))
  AND NOT pg_catalog.pg_has_role(r.oid, d.datdba, 'MEMBER')
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_class AS h
      WHERE h.oid::bigint = ANY (%(hypertables)s::bigint[]) AND pg_catalog.pg_has_role(r.oid, h.relowner, 'MEMBER'))
