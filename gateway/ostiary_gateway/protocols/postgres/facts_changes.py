"""INSERT, UPDATE, DELETE and MERGE: the relations and columns that they write, and what they read for it."""

from __future__ import annotations

from .facts_model import Level
from .facts_walk import Tree, Walk, handles, selective, with_clause


def target(walk: Walk, relation: Tree, event: str, columns: tuple[str, ...]) -> None:
    """The relation that is written, and the reading of its old rows. A CTE's name never is a target."""
    walk.changes()
    walk.touch(relation, "write", columns=columns, event=event)
    if not any(use.event == "*" and use.level is walk.level for use in walk.draft.relations):
        walk.touch(relation, "read", level=walk.level, event="*")


def assigned(walk: Walk, targets: list[Tree]) -> tuple[str, ...]:
    """Read assignments; the names of the columns that they set."""
    names = []
    for item in targets:
        assignment = item["ResTarget"]
        names.append(assignment.get("name", "*"))
        for step in assignment.get("indirection", ()):
            walk.node(step)
        value = assignment.get("val")
        if value is None:
            continue
        multiple = value.get("MultiAssignRef")
        # The one source of (a, b) = … stands under every column of it.
        if multiple is None:
            walk.node(value)
        elif multiple.get("colno", 1) == 1:
            walk.node(multiple["source"])
    return tuple(names)


class _Scope:
    """The WITH clause and the level of one data change."""

    def __init__(self, walk: Walk, body: Tree) -> None:
        self.walk, self.body = walk, body

    def __enter__(self) -> None:
        self.ctes, self.outer = self.walk.ctes, self.walk.level
        if "withClause" in self.body:
            with_clause(self.walk, self.body["withClause"])
        self.walk.level = Level(self.outer)

    def __exit__(self, *_: object) -> None:
        self.walk.ctes, self.walk.level = self.ctes, self.outer


@handles("InsertStmt")
def insert(walk: Walk, body: Tree) -> None:
    with _Scope(walk, body):
        columns = assigned(walk, body["cols"]) if "cols" in body else ("*",)
        target(walk, body["relation"], "INSERT", columns)
        walk.inside("InsertStmt", body, "relation", "cols", "withClause", "onConflictClause")
        conflict = body.get("onConflictClause")
        if conflict is not None:
            if "targetList" in conflict:
                target(walk, body["relation"], "UPDATE", assigned(walk, conflict["targetList"]))
            for element in conflict.get("infer", {}).get("indexElems", ()):
                if "name" in element.get("IndexElem", {}) and walk.level is not None:
                    walk.level.names.add(element["IndexElem"]["name"])
            walk.inside("OnConflictClause", conflict, "targetList")
            if walk.level is not None and any(alias == "excluded" for alias, _ in walk.level.qualified):
                names = {column for alias, column in walk.level.qualified if alias == "excluded"}
                walk.level.names.update(names - {"*"})


@handles("UpdateStmt")
def update(walk: Walk, body: Tree) -> None:
    with _Scope(walk, body):
        walk.draft.wheres.append(selective(body.get("whereClause")))
        target(walk, body["relation"], "UPDATE", assigned(walk, body.get("targetList", [])))
        walk.inside("UpdateStmt", body, "relation", "targetList", "withClause")


@handles("DeleteStmt")
def delete(walk: Walk, body: Tree) -> None:
    with _Scope(walk, body):
        walk.draft.wheres.append(selective(body.get("whereClause")))
        target(walk, body["relation"], "DELETE", ("*",))
        walk.inside("DeleteStmt", body, "relation", "withClause")


@handles("MergeStmt")
def merge(walk: Walk, body: Tree) -> None:
    """An unbounded MERGE joins on a constant, or changes what no source row matches under no condition."""
    with _Scope(walk, body):
        bounded = selective(body.get("joinCondition"))
        walk.changes()
        for item in body.get("mergeWhenClauses", ()):
            clause = item["MergeWhenClause"]
            event = clause["commandType"].removeprefix("CMD_")
            if event == "NOTHING":
                continue
            columns = assigned(walk, clause["targetList"]) if "targetList" in clause else ("*",)
            if event == "INSERT" and not clause.get("targetList"):
                columns = ("*",)
            target(walk, body["relation"], event, columns)
            if clause.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" and not selective(clause.get("condition")):
                bounded = False
        walk.draft.wheres.append(bounded)
        walk.inside("MergeStmt", body, "relation", "withClause", "mergeWhenClauses")
        for item in body.get("mergeWhenClauses", ()):
            walk.inside("MergeWhenClause", item["MergeWhenClause"], "targetList")
