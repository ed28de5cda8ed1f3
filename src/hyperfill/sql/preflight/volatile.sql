-- Which of these function names stand for volatile functions only: another answer each time.
SELECT proname::text FROM pg_catalog.pg_proc WHERE proname::text = ANY (%(names)s)
GROUP BY proname HAVING pg_catalog.bool_and(provolatile = 'v') ORDER BY proname
