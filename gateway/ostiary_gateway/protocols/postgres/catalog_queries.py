"""The queries that fill the catalog. All results are text; every name is qualified, so no search_path matters."""

from __future__ import annotations

BUILTINS = """
SELECT 'function', p.oid::text, p.proname::text, p.pronargs::text, p.pronargdefaults::text,
       CASE WHEN p.provariadic OPERATOR(pg_catalog.<>) 0 THEN 't' ELSE 'f' END, p.provolatile::text, p.prokind::text
FROM pg_catalog.pg_proc p
WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
  AND p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
UNION ALL
SELECT 'type', t.oid::text, t.typname::text, '0', '0', 'f', '', ''
FROM pg_catalog.pg_type t
WHERE t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND t.typtype OPERATOR(pg_catalog.<>) 'c'
"""
"""Rows: what, oid, name, arguments, defaults, variadic, volatility, kind."""

AMBIENT = """
SELECT 'operator', n.nspname::text, o.oprname::text, o.oprcode::pg_catalog.oid::text, NULL::text
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND o.oprcode::pg_catalog.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
UNION ALL
SELECT 'cast', NULL, t.typname::text, c.castfunc::text, c.castcontext::text
FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.casttarget
WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND c.castfunc OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
UNION ALL
SELECT 'domain', NULL, NULL, '0', c.conbin::text
FROM pg_catalog.pg_constraint c
WHERE c.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND c.conbin IS NOT NULL
  AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
UNION ALL
SELECT 'column', n.nspname::text, p.proname::text, p.oid::text, NULL
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]
WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND t.typtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'p', 'd']::"char"[])
  AND p.pronargs OPERATOR(pg_catalog.-) p.pronargdefaults OPERATOR(pg_catalog.<=) 1 AND p.pronargs OPERATOR(pg_catalog.>=) 1
UNION ALL
SELECT 'event', NULL, e.evtname::text, e.evtfoid::text, e.evtevent::text
FROM pg_catalog.pg_event_trigger e
WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D' AND e.evtevent OPERATOR(pg_catalog.<>) 'login'
"""
"""Rows: what, schema, name, function oid, tree or context."""

RELATIONS = """
WITH wanted AS (
  SELECT c.* FROM pg_catalog.pg_class c
  WHERE c.relname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.name[])
  UNION
  SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::pg_catalog.oid[])
)
SELECT c.oid::text,
  CASE WHEN c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname::text END,
  c.relname::text, c.relkind::text, c.reltuples::text,
  (SELECT pg_catalog.json_object_agg(a.attnum, a.attname)::text FROM pg_catalog.pg_attribute a
   WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped),
  (SELECT pg_catalog.json_agg(a.attname)::text FROM pg_catalog.pg_attribute a
   WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attgenerated OPERATOR(pg_catalog.<>) ''),
  CASE WHEN c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid THEN
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
     CASE r.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END,
     pg_catalog.concat(r.ev_qual::text, r.ev_action::text)))::text
   FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid AND r.ev_enabled OPERATOR(pg_catalog.<>) 'D') END,
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.tgfoid::pg_catalog.int8, t.tgtype))::text
   FROM pg_catalog.pg_trigger t
   WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'),
  CASE WHEN c.relrowsecurity THEN
  (SELECT pg_catalog.string_agg(pg_catalog.concat(p.polqual::text, p.polwithcheck::text), ' ')
   FROM pg_catalog.pg_policy p WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid) END,
  CASE WHEN c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid THEN pg_catalog.concat(
    (SELECT pg_catalog.string_agg(d.adbin::text, ' ') FROM pg_catalog.pg_attrdef d
     WHERE d.adrelid OPERATOR(pg_catalog.=) c.oid),
    (SELECT pg_catalog.string_agg(k.conbin::text, ' ') FROM pg_catalog.pg_constraint k
     WHERE k.conrelid OPERATOR(pg_catalog.=) c.oid AND k.conbin IS NOT NULL),
    (SELECT pg_catalog.string_agg(pg_catalog.concat(i.indexprs::text, i.indpred::text), ' ') FROM pg_catalog.pg_index i
     WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid),
    (SELECT pg_catalog.string_agg(q.partexprs::text, ' ') FROM pg_catalog.pg_partitioned_table q
     WHERE q.partrelid OPERATOR(pg_catalog.=) c.oid),
    (SELECT pg_catalog.string_agg(t.tgqual::text, ' ') FROM pg_catalog.pg_trigger t
     WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND t.tgqual IS NOT NULL)) END,
  (WITH RECURSIVE up(oid) AS (
     SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid
     UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid OPERATOR(pg_catalog.=) up.oid)
   SELECT pg_catalog.json_agg(up.oid::pg_catalog.int8)::text FROM up),
  CASE WHEN c.relhassubclass THEN (WITH RECURSIVE down(oid) AS (
     SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid
     UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down ON i.inhparent OPERATOR(pg_catalog.=) down.oid)
   SELECT pg_catalog.json_agg(down.oid::pg_catalog.int8)::text FROM down) END,
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conrelid::pg_catalog.int8, k.confdeltype, k.confupdtype))::text
   FROM pg_catalog.pg_constraint k
   WHERE k.confrelid OPERATOR(pg_catalog.=) c.oid AND k.contype OPERATOR(pg_catalog.=) 'f')
FROM wanted c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.<>) 't'
  AND (n.nspname::text OPERATOR(pg_catalog.!~~) 'pg\\_temp\\_%'
       OR c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
"""
"""$1: names, $2: OIDs. Rows: as `Relation` has it; compound columns are JSON."""

FUNCTIONS = """
SELECT 'function', p.oid::text, n.nspname::text, p.proname::text, p.pronargs::text, p.pronargdefaults::text,
  CASE WHEN p.provariadic OPERATOR(pg_catalog.<>) 0::pg_catalog.oid THEN 't' ELSE 'f' END,
  p.provolatile::text, l.lanname::text, p.prosrc, p.prosqlbody::text,
  CASE WHEN p.prosecdef THEN 't' ELSE 'f' END, pg_catalog.array_to_json(p.proconfig)::text, p.prokind::text,
  (SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) p.prorettype),
  CASE WHEN p.proretset THEN 't' ELSE 'f' END, pg_catalog.array_to_json(p.proargnames)::text,
  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid
      AND d.deptype OPERATOR(pg_catalog.=) 'e') THEN 't' ELSE 'f' END,
  (SELECT pg_catalog.json_build_array(a.aggtransfn::pg_catalog.oid::pg_catalog.int8, a.aggfinalfn::pg_catalog.oid::pg_catalog.int8,
     a.aggcombinefn::pg_catalog.oid::pg_catalog.int8, a.aggserialfn::pg_catalog.oid::pg_catalog.int8,
     a.aggdeserialfn::pg_catalog.oid::pg_catalog.int8, a.aggmtransfn::pg_catalog.oid::pg_catalog.int8,
     a.aggminvtransfn::pg_catalog.oid::pg_catalog.int8, a.aggmfinalfn::pg_catalog.oid::pg_catalog.int8)::text
   FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) p.oid)
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
WHERE (p.proname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.name[])
       OR p.oid OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::pg_catalog.oid[]))
  AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
UNION ALL
SELECT 'type', t.oid::text, n.nspname::text, t.typname::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
WHERE t.typname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.name[])
  AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
"""
"""$1: names, $2: OIDs. Rows: as `Function` has it, or a type of that name."""
