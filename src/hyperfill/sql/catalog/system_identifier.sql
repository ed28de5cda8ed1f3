-- The cluster's identity: the same on a primary and its standbys, different after initdb or a dump and restore.
SELECT system_identifier::text FROM pg_catalog.pg_control_system()
