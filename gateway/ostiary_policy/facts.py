"""The facts: every variable that a CEL expression may read, declared once, typed and documented.

Each fact is a plain dict at run time (the CEL engine takes nothing else inside a value: dict, list, str, int,
float, bool, None). The type-check environment, the reference page in docs/ and the static analysis all come
from these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired, TypedDict


@dataclass(frozen=True, slots=True)
class Doc:
    """What a fact means, for the reference page.

    `costly`: working it out needs a round trip to the target, so it is supplied only when a rule in force needs it.
    `cel`: the CEL type where it is not the obvious one of the Python type (`timestamp`).
    `varies`: what a reusable decision must not depend on: "text" facts change with the literals of a statement,
    "request" facts with each request, None only with the session or the statement's shape.
    """

    text: str
    costly: bool = False
    cel: str | None = None
    varies: Literal["text", "request"] | None = None


class ConnectionFacts(TypedDict):
    """The Connection that the agent came through."""

    name: Annotated[str, Doc("Name of the Connection.")]
    namespace: Annotated[str, Doc("Namespace of the Connection.")]
    labels: Annotated[dict[str, str], Doc("Labels of the Connection.")]
    protocol: Annotated[str, Doc("`Postgres`, `Kubernetes` or `SSH`.")]


class SubjectFacts(TypedDict):
    """Who asks. Proven by the credential that the agent showed, never self-declared."""

    username: Annotated[str, Doc("User name, as its identity provider gives it.")]
    uid: Annotated[str, Doc("Unique id of the subject; empty where the provider has none.")]
    groups: Annotated[list[str], Doc("Groups of the subject.")]
    kind: Annotated[str, Doc("`User`, `ServiceAccount` or `Workload`.")]
    namespace: Annotated[str, Doc("Namespace of a ServiceAccount; empty otherwise.")]
    name: Annotated[str, Doc("Name of a ServiceAccount; the user name otherwise.")]
    claims: Annotated[dict[str, object], Doc("Claims of the subject's token.")]
    onBehalfOf: Annotated[str, Doc("The person that the agent acts for, where its token says so; empty otherwise.")]


class ClientFacts(TypedDict):
    """The client's end of the connection. `application` is what the client says of itself: never trust it."""

    address: Annotated[str, Doc("IP address of the client.")]
    application: Annotated[
        str, Doc("Self-declared name (application_name, User-Agent, SSH version).", varies="request")
    ]


class SessionFacts(TypedDict):
    """The session so far."""

    id: Annotated[str, Doc("Id of the session in the record.")]
    startedAt: Annotated[str, Doc("When the session began.", cel="timestamp")]
    requests: Annotated[int, Doc("Requests so far, this one not counted.", varies="request")]
    rowsRead: Annotated[int, Doc("Rows sent to the client so far.", varies="request")]
    bytesRead: Annotated[int, Doc("Bytes of responses sent to the client so far.", varies="request")]
    rowsWritten: Annotated[int, Doc("Rows inserted, updated, deleted or merged so far.", varies="request")]


class RequestFacts(TypedDict):
    """`request`: who asks, through which Connection, when."""

    time: Annotated[str, Doc("When the request came (RFC 3339, UTC).", cel="timestamp", varies="request")]
    connection: Annotated[ConnectionFacts, Doc("The Connection.")]
    subject: Annotated[SubjectFacts, Doc("Who asks.")]
    client: Annotated[ClientFacts, Doc("The client's end of the connection.")]
    session: Annotated[SessionFacts, Doc("The session so far.")]


class RelationFacts(TypedDict):
    """A table, view, sequence or other relation that a statement names or reaches."""

    schema: Annotated[
        str, Doc("Schema, resolved through search_path and the catalog; empty if there is no such relation.")
    ]
    name: Annotated[str, Doc("Name, unquoted, as the catalog has it.")]
    access: Annotated[str, Doc("`read`, `write` (insert, update, delete, truncate, merge, copy in) or `define` (DDL).")]
    columns: Annotated[list[str], Doc("Columns named with this relation; `*` stands for all, and for not known.")]


class StatementFacts(TypedDict):
    """One SQL statement of the request."""

    verb: Annotated[
        str,
        Doc(
            "Command, upper case: SELECT, INSERT, UPDATE, DELETE, MERGE, DROP, CREATE, ALTER, COPY, SET …; empty if unparsable."
        ),
    ]
    kind: Annotated[str, Doc("Kind of object for DDL: TABLE, DATABASE, INDEX, ROLE …; empty otherwise.")]
    commands: Annotated[
        list[str],
        Doc(
            "Every command in it, with its kind: `DELETE`, `DROP TABLE`, `ALTER TABLE DROP COLUMN`. Those in CTEs, bodies of "
            "DO and functions, EXPLAIN ANALYZE, PREPARE included; those of an opaque statement as far as they are known."
        ),
    ]
    readOnly: Annotated[
        bool,
        Doc("True only if the statement is known to change nothing: no data, no schema, no setting that outlives it."),
    ]
    writes: Annotated[bool, Doc("True if the statement changes data or schema, or cannot be known not to.")]
    opaque: Annotated[bool, Doc("True if what it does cannot be known from its text.")]
    opaqueReason: Annotated[str, Doc("Why it is opaque, for people; empty if it is not.")]
    relations: Annotated[
        list[RelationFacts], Doc("Relations read, written or defined, in sub-queries, CTEs and known bodies too.")
    ]
    functions: Annotated[
        list[str], Doc("Functions called, `schema.name`; the schema is empty if it could not be resolved.")
    ]
    hasWhere: Annotated[
        bool,
        Doc("True if every UPDATE and DELETE in it has a WHERE clause (and for SELECT, if the outermost has one)."),
    ]
    hasLimit: Annotated[bool, Doc("True if the outermost query has a LIMIT or FETCH FIRST.")]
    settings: Annotated[list[str], Doc("Settings that it changes, lower case; `*` for all of them or for not known.")]
    text: Annotated[str, Doc("The statement's own text.", varies="text")]
    fingerprint: Annotated[
        str, Doc("libpg_query fingerprint, 16 hex digits; empty if unparsable. For grouping, not for authorisation.")
    ]


class SqlFacts(TypedDict):
    """`sql`: one Query or one execution of a prepared statement. Several statements in one Query are one request."""

    text: Annotated[str, Doc("The whole text as the client sent it.", varies="text")]
    database: Annotated[str, Doc("Database that the session is in.")]
    user: Annotated[str, Doc("Role that the statement runs as.")]
    inTransaction: Annotated[bool, Doc("True inside a transaction block when the request begins.", varies="request")]
    statements: Annotated[list[StatementFacts], Doc("The statements, in order.")]
    params: NotRequired[
        Annotated[list[object], Doc("Bound parameters in PostgreSQL's text form (string) or null.", varies="request")]
    ]
    estimatedRows: NotRequired[
        Annotated[
            int,
            Doc(
                "Rows that the statements would read or change, by the planner's estimate.",
                costly=True,
                varies="request",
            ),
        ]
    ]


class ExecFacts(TypedDict):
    """A command in a container. For other requests every field of it is empty."""

    container: Annotated[str, Doc("Container; empty for the default one.", varies="text")]
    command: Annotated[list[str], Doc("The command and its arguments; empty for attach.", varies="text")]
    stdin: Annotated[bool, Doc("True if standard input is attached.", varies="text")]
    tty: Annotated[bool, Doc("True if a terminal is asked for.", varies="text")]


class KubernetesFacts(TypedDict):
    """`k8s`: one request to the Kubernetes API."""

    verb: Annotated[
        str,
        Doc(
            "get, list, watch, create, update, patch, delete, deletecollection; and what the API server calls by one "
            "of these names, but is something else: `connect` (exec, attach, portforward, proxy), `token` (a token of a "
            "ServiceAccount), `evict`, `debug` (an ephemeral container). The method in lower case where `resource` is "
            "empty."
        ),
    ]
    rbacVerb: Annotated[str, Doc("The verb as the API server has it, and RBAC: exec is `create`, or `get`.")]
    group: Annotated[str, Doc("API group; empty for the core group.")]
    version: Annotated[str, Doc("API version.")]
    resource: Annotated[
        str, Doc("Resource, plural; empty if it is about no resource: /api, /openapi/v3, /healthz.")
    ]
    subresource: Annotated[str, Doc("Subresource; empty if none.")]
    namespace: Annotated[str, Doc("Namespace; empty if cluster-scoped or over all. Of a namespace itself, its name.")]
    name: Annotated[str, Doc("Name of the object; empty for collections, and for what is created.", varies="text")]
    path: Annotated[str, Doc("Path of the URL, without the query.", varies="text")]
    labelSelector: Annotated[str, Doc("Label selector, as sent.", varies="text")]
    fieldSelector: Annotated[str, Doc("Field selector, as sent.", varies="text")]
    dryRun: Annotated[bool, Doc("True if the API server would take it for a dry run, which changes nothing.")]
    discovery: Annotated[
        bool,
        Doc("True if it reads what the API offers (/api, /apis, /openapi, /version), as clients do, and no object."),
    ]
    readOnly: Annotated[
        bool,
        Doc(
            "True only if it is known to change nothing: get, list, watch; what one may do, and who one is "
            "(SelfSubjectAccessReview and its like). Logs are read; exec, proxy and a dry run are not."
        ),
    ]
    object: NotRequired[
        Annotated[
            dict[str, object],
            Doc(
                "The object as it would be afterwards, from the API server's own dry run. For `scale` the object that is "
                "scaled; for `connect` the pod, service or node. Empty for what reads, deletes, evicts, or asks for a token.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    oldObject: NotRequired[
        Annotated[
            dict[str, object],
            Doc(
                "The object as it is now: the one that is scaled, deleted, evicted, run in. Empty for what reads and for "
                "what is new; absent for deletecollection.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    oldObjects: NotRequired[
        Annotated[
            list[object],
            Doc(
                "The objects as they are now that would go or change: `oldObject`, if it is not empty; for deletecollection "
                "all that are selected.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    affected: NotRequired[
        Annotated[
            int,
            Doc(
                "How many objects would go, change or be made: 1; 0 for what reads; for deletecollection as many as are "
                "selected.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    exec: Annotated[ExecFacts, Doc("For pods/exec and attach: the command.")]


class CommandFacts(TypedDict):
    """One simple command of a shell command line; sudo, env, xargs, `sh -c` and their like are seen through."""

    program: Annotated[str, Doc("Program that runs, its base name: `rm` of `sudo /bin/rm`.", varies="text")]
    path: Annotated[str, Doc("The program as it is written: `/bin/rm`.", varies="text")]
    argv: Annotated[list[str], Doc("The program and its arguments, quotes removed.", varies="text")]
    exact: Annotated[
        bool,
        Doc(
            "True if argv is what the program gets, to the letter; false if a variable, a pattern, a substitution or the "
            "input of xargs stands in it.",
            varies="text",
        ),
    ]
    flags: Annotated[list[str], Doc("Flags, short ones split: `-rf` is `-r` and `-f`.", varies="text")]
    assignments: Annotated[
        list[str], Doc("Names of the variables set for it: `LD_PRELOAD` of `LD_PRELOAD=x ls`.", varies="text")
    ]
    inputs: Annotated[list[str], Doc("Files that its input is redirected from.", varies="text")]
    redirects: Annotated[list[str], Doc("Files that its output is redirected to.", varies="text")]
    substitutions: Annotated[list[str], Doc("Command and process substitutions in it.", varies="text")]
    via: Annotated[
        list[str], Doc("The programs that were seen through, the outermost first: `sudo` and `env`.", varies="text")
    ]
    runAs: Annotated[
        str, Doc("Whom sudo or su runs it as, `root` for plain sudo; empty if it runs as the login.", varies="text")
    ]


class DestinationFacts(TypedDict):
    """Where a forward leads. For other requests every field of it is empty."""

    host: Annotated[str, Doc("Host as it is asked for; of a remote forward the address to listen on.", varies="text")]
    port: Annotated[int, Doc("TCP port; 0 for a Unix socket, and for a remote forward to any port.", varies="text")]
    path: Annotated[str, Doc("Path of a Unix socket; empty for TCP.", varies="text")]


class SshFacts(TypedDict):
    """`ssh`: one command, shell, file operation or forward. What a kind does not have is empty."""

    kind: Annotated[
        str,
        Doc(
            "`exec` (a command), `shell` (an interactive one), `sftp` and `scp` (one file operation, or the beginning "
            "of such a session), `subsystem` (any other), `forward`, `agent` (forwarding of the agent's keys), `x11`, "
            "`env` (a variable of the environment, before the command that it is for)."
        ),
    ]
    user: Annotated[str, Doc("Login at the target.")]
    command: Annotated[str, Doc("The command line of exec and scp, as sent; the name of a subsystem.", varies="text")]
    commands: Annotated[
        list[CommandFacts],
        Doc(
            "The simple commands in the command line, those of pipelines, lists, loops and substitutions too. Empty for "
            "other kinds, and of an empty list `all` is true: say `ssh.kind == 'exec'` beside it.",
            varies="text",
        ),
    ]
    opaque: Annotated[
        bool,
        Doc("True if what the command line does cannot be known from its text. True for a shell and a subsystem too."),
    ]
    opaqueReason: Annotated[str, Doc("Why it is opaque, for people; empty if it is not.", varies="text")]
    pty: Annotated[bool, Doc("True if the command or shell gets a terminal.")]
    env: Annotated[
        dict[str, str], Doc("Variables that were let through for the command or shell, each by `env`.", varies="text")
    ]
    name: Annotated[str, Doc("For env: the variable's name.", varies="text")]
    value: Annotated[str, Doc("For env: its value.", varies="text")]
    operation: Annotated[
        str,
        Doc(
            "For sftp and scp: `session` (its beginning), `read`, `write`, `append`, `readwrite` (a file is opened for "
            "that), `stat`, `list`, `mkdir`, `rmdir`, `remove`, `rename`, `symlink`, `link`, `setstat`, `readlink`, "
            "`realpath`, `statvfs`; of any other extension of SFTP its name."
        ),
    ]
    path: Annotated[
        str,
        Doc(
            "For sftp and scp: the file or directory; without `.`, `..` and doubled slashes where it is absolute. "
            "Symbolic links are not followed: see realPath.",
            varies="text",
        ),
    ]
    target: Annotated[
        str, Doc("The second path: of rename and link the new name, of symlink what it leads to.", varies="text")
    ]
    realPath: NotRequired[
        Annotated[
            str,
            Doc(
                "For sftp: the path with symbolic links followed, as the target has it just now; of what is made, "
                "removed or renamed that of its directory, with its name. Absent if the target does not say; empty for what "
                "has no path.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    realTarget: NotRequired[
        Annotated[
            str,
            Doc(
                "The same for `target`, of what has a second path to a file (rename, link); empty for others.",
                costly=True,
                varies="request",
            ),
        ]
    ]
    size: Annotated[
        int, Doc("For scp: bytes of the file that is written, as announced; 0 if not known.", varies="text")
    ]
    readOnly: Annotated[
        bool,
        Doc(
            "True only if it is known to change nothing: reading, stat and listing by sftp and scp, and the beginning "
            "of such a session. Never of a command."
        ),
    ]
    direction: Annotated[
        str, Doc("For forward: `local` (the target connects, ssh -L and -D) or `remote` (it listens, ssh -R).")
    ]
    destination: Annotated[DestinationFacts, Doc("For forward: where it leads; of a remote one where it listens.")]


VARIABLES: dict[str, type] = {"request": RequestFacts, "sql": SqlFacts, "k8s": KubernetesFacts, "ssh": SshFacts}
"""Every top-level variable and its shape. A protocol sees `request` and its own."""

PROTOCOL_VARIABLE: dict[str, str] = {"Postgres": "sql", "Kubernetes": "k8s", "SSH": "ssh"}
"""The variable that each protocol fills."""
