"""The queries that fill the catalog. All results are text; every name is qualified, so no search_path matters."""

from __future__ import annotations

import re


def _operators(sql: str) -> str:
    """`%=` is pg_catalog's `=`, whatever search_path holds."""
    return re.sub(r"%([<>=!~-]+)", r"OPERATOR(pg_catalog.\1)", sql)


BUILTINS = _operators("""
SELECT 'function', p.oid::text, p.proname::text, p.pronargs::text, p.pronargdefaults::text,
       CASE WHEN p.provariadic %<> 0 THEN 't' ELSE 'f' END, p.provolatile::text, p.prokind::text
FROM pg_catalog.pg_proc p
WHERE p.pronamespace %= 'pg_catalog'::pg_catalog.regnamespace
  AND p.oid %< 16384::pg_catalog.oid
UNION ALL
SELECT 'type', t.oid::text, t.typname::text, '0', '0', 'f', '', ''
FROM pg_catalog.pg_type t
WHERE t.typnamespace %= 'pg_catalog'::pg_catalog.regnamespace AND t.typtype %<> 'c'
""")
"""Rows: what, oid, name, arguments, defaults, variadic, volatility, kind."""

AMBIENT = _operators("""
SELECT 'operator', n.nspname::text, o.oprname::text, o.oprcode::pg_catalog.oid::text, NULL::text
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid %= o.oprnamespace
WHERE o.oid %>= 16384::pg_catalog.oid AND o.oprcode::pg_catalog.oid %<> 0::pg_catalog.oid
UNION ALL
SELECT 'cast', NULL, t.typname::text, c.castfunc::text, c.castcontext::text
FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON t.oid %= c.casttarget
WHERE c.oid %>= 16384::pg_catalog.oid AND c.castfunc %<> 0::pg_catalog.oid
UNION ALL
SELECT 'domain', NULL, NULL, '0', c.conbin::text
FROM pg_catalog.pg_constraint c
WHERE c.contypid %<> 0::pg_catalog.oid AND c.conbin IS NOT NULL
  AND c.oid %>= 16384::pg_catalog.oid
UNION ALL
SELECT 'column', n.nspname::text, p.proname::text, p.oid::text, NULL
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid %= p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid %= p.proargtypes[0]
WHERE p.oid %>= 16384::pg_catalog.oid AND t.typtype %= ANY (ARRAY['c', 'p', 'd']::"char"[])
  AND p.pronargs %- p.pronargdefaults %<= 1 AND p.pronargs %>= 1
UNION ALL
SELECT 'event', NULL, e.evtname::text, e.evtfoid::text, e.evtevent::text
FROM pg_catalog.pg_event_trigger e
WHERE e.evtenabled %<> 'D' AND e.evtevent %<> 'login'
""")
"""Rows: what, schema, name, function oid, tree or context."""

RELATIONS = _operators("""
WITH wanted AS (
  SELECT c.* FROM pg_catalog.pg_class c
  WHERE c.relname %= ANY ($1::pg_catalog.text[]::pg_catalog.name[])
  UNION
  SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid %= ANY ($2::pg_catalog.text[]::pg_catalog.oid[])
)
SELECT c.oid::text,
  CASE WHEN c.relnamespace %= pg_catalog.pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname::text END,
  c.relname::text, c.relkind::text, c.reltuples::text,
  (SELECT pg_catalog.json_object_agg(a.attnum, a.attname)::text FROM pg_catalog.pg_attribute a
   WHERE a.attrelid %= c.oid AND a.attnum %> 0 AND NOT a.attisdropped),
  (SELECT pg_catalog.json_agg(a.attname)::text FROM pg_catalog.pg_attribute a
   WHERE a.attrelid %= c.oid AND a.attgenerated %<> ''),
  CASE WHEN c.oid %>= 16384::pg_catalog.oid THEN
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
     CASE r.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END,
     pg_catalog.concat(r.ev_qual::text, r.ev_action::text)))::text
   FROM pg_catalog.pg_rewrite r WHERE r.ev_class %= c.oid AND r.ev_enabled %<> 'D') END,
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.tgfoid::pg_catalog.int8, t.tgtype, t.tgqual::text))::text
   FROM pg_catalog.pg_trigger t
   WHERE t.tgrelid %= c.oid AND NOT t.tgisinternal AND t.tgenabled %<> 'D'),
  CASE WHEN c.relrowsecurity THEN
  (SELECT pg_catalog.string_agg(pg_catalog.concat(p.polqual::text, p.polwithcheck::text), ' ')
   FROM pg_catalog.pg_policy p WHERE p.polrelid %= c.oid) END,
  CASE WHEN c.oid %>= 16384::pg_catalog.oid THEN pg_catalog.concat(
    (SELECT pg_catalog.string_agg(d.adbin::text, ' ') FROM pg_catalog.pg_attrdef d
     WHERE d.adrelid %= c.oid),
    (SELECT pg_catalog.string_agg(k.conbin::text, ' ') FROM pg_catalog.pg_constraint k
     WHERE k.conrelid %= c.oid AND k.conbin IS NOT NULL),
    (SELECT pg_catalog.string_agg(pg_catalog.concat(i.indexprs::text, i.indpred::text), ' ') FROM pg_catalog.pg_index i
     WHERE i.indrelid %= c.oid),
    (SELECT pg_catalog.string_agg(q.partexprs::text, ' ') FROM pg_catalog.pg_partitioned_table q
     WHERE q.partrelid %= c.oid)) END,
  (WITH RECURSIVE up(oid) AS (
     SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid %= c.oid
     UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid %= up.oid)
   SELECT pg_catalog.json_agg(up.oid::pg_catalog.int8)::text FROM up),
  CASE WHEN c.relhassubclass THEN (WITH RECURSIVE down(oid) AS (
     SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent %= c.oid
     UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down ON i.inhparent %= down.oid)
   SELECT pg_catalog.json_agg(down.oid::pg_catalog.int8)::text FROM down) END,
  (SELECT pg_catalog.json_agg(
     pg_catalog.json_build_array(k.conrelid::pg_catalog.int8, k.confdeltype, k.confupdtype))::text
   FROM pg_catalog.pg_constraint k
   WHERE k.confrelid %= c.oid AND k.contype %= 'f')
FROM wanted c JOIN pg_catalog.pg_namespace n ON n.oid %= c.relnamespace
WHERE c.relkind %<> 't'
  AND (n.nspname::text %!~~ 'pg\\_temp\\_%'
       OR c.relnamespace %= pg_catalog.pg_my_temp_schema())
""")
"""$1: names, $2: OIDs. Rows: as `Relation` has it; compound columns are JSON."""

FUNCTIONS = _operators("""
SELECT 'function', p.oid::text, n.nspname::text, p.proname::text, p.pronargs::text, p.pronargdefaults::text,
  CASE WHEN p.provariadic %<> 0::pg_catalog.oid THEN 't' ELSE 'f' END,
  p.provolatile::text, l.lanname::text, p.prosrc, p.prosqlbody::text,
  CASE WHEN p.prosecdef THEN 't' ELSE 'f' END, pg_catalog.array_to_json(p.proconfig)::text, p.prokind::text,
  (SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.oid %= p.prorettype),
  CASE WHEN p.proretset THEN 't' ELSE 'f' END, pg_catalog.array_to_json(p.proargnames)::text,
  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid %= 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid %= p.oid
      AND d.deptype %= 'e') THEN 't' ELSE 'f' END,
  (SELECT pg_catalog.json_build_array(
     a.aggtransfn::pg_catalog.oid::pg_catalog.int8, a.aggfinalfn::pg_catalog.oid::pg_catalog.int8,
     a.aggcombinefn::pg_catalog.oid::pg_catalog.int8, a.aggserialfn::pg_catalog.oid::pg_catalog.int8,
     a.aggdeserialfn::pg_catalog.oid::pg_catalog.int8, a.aggmtransfn::pg_catalog.oid::pg_catalog.int8,
     a.aggminvtransfn::pg_catalog.oid::pg_catalog.int8, a.aggmfinalfn::pg_catalog.oid::pg_catalog.int8)::text
   FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid::pg_catalog.oid %= p.oid)
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid %= p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid %= p.prolang
WHERE (p.proname %= ANY ($1::pg_catalog.text[]::pg_catalog.name[])
       OR p.oid %= ANY ($2::pg_catalog.text[]::pg_catalog.oid[]))
  AND p.oid %>= 16384::pg_catalog.oid
UNION ALL
SELECT 'type', t.oid::text, n.nspname::text, t.typname::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid %= t.typnamespace
WHERE t.typname %= ANY ($1::pg_catalog.text[]::pg_catalog.name[])
  AND t.oid %>= 16384::pg_catalog.oid
""")
"""$1: names, $2: OIDs. Rows: as `Function` has it, or a type of that name."""
