"""GatewayPolicy: rules in CEL, matched to Connections and subjects."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt, StringConstraints

from ostiary_api.cases import PolicyTest
from ostiary_api.connection import Protocol
from ostiary_api.meta import (
    LIST_ATOMIC,
    LIST_SET,
    PROBLEM_COLUMN,
    Conditions,
    DnsLabel,
    GroupName,
    LabelSelector,
    Model,
    Resource,
    SecretKeyRef,
    StatusModel,
    Username,
    Validation,
    list_map,
)
from ostiary_api.units import Timestamp, duration

Action = Literal["Deny", "RequireApproval", "Allow", "Mask", "Audit"]
Enforcement = Literal["Enforce", "Audit"]
Detector = Literal[
    "CreditCard",
    "IBAN",
    "Email",
    "Phone",
    "USSocialSecurityNumber",
    "IPAddress",
    "JWT",
    "PrivateKey",
    "AWSKey",
    "GitHubToken",
    "SlackToken",
    "StripeKey",
]

Expression = Annotated[str, StringConstraints(min_length=1, max_length=16384)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_CEL_RESERVED = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
]


class PolicySubject(Model):
    """A subject that the policy is for."""

    kind: Literal["ServiceAccount", "User", "Group", "Workload"] = Field(
        description="Kind of subject: a ServiceAccount, a user, a group of any of them, or a workload with a SPIFFE id."
    )
    name: Username = Field(description="Name of the ServiceAccount, user, group or workload (its SPIFFE id).")
    namespace: DnsLabel | None = Field(
        default=None, description="Namespace of the ServiceAccount, which need not be the policy's."
    )

    validations = (
        Validation(
            "has(self.__namespace__) == (self.kind == 'ServiceAccount')",
            "namespace is needed for a ServiceAccount, and for nothing else",
            lambda self: (self.namespace is not None) == (self.kind == "ServiceAccount"),
        ),
    )


class Match(Model):
    """What the policy is for. All that is given must hold; what is not given holds for anything."""

    connection_selector: LabelSelector | None = Field(
        default=None,
        description="Connections, by their labels, in the policy's own namespace. Without it: all of them.",
    )
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces whose Connections the policy is for, by their labels. Only in the system namespace.",
    )
    protocols: tuple[Protocol, ...] = Field(
        default=(),
        max_length=8,
        description="Protocols of the Connections that it is for; empty: any.",
        json_schema_extra=LIST_SET,
    )
    subjects: tuple[PolicySubject, ...] = Field(
        default=(),
        max_length=256,
        description="Subjects, one of which must be asking; empty: anybody who can log in.",
        json_schema_extra=LIST_ATOMIC,
    )


class MatchCondition(Model):
    """A condition for the whole policy to be in force for a request."""

    name: DnsLabel = Field(description="Name of the condition, for messages.")
    expression: Expression = Field(description="CEL on the facts of the request; must give a bool. An error denies.")


class Variable(Model):
    """A value that the policy's expressions use as `variables.NAME`. Worked out only when it is read."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name, an identifier in CEL."
    )
    expression: Expression = Field(description="CEL; may read the facts and the variables before it.")

    validations = (
        Validation(
            f"!(self.name in {_CEL_RESERVED})",
            "name is a reserved word of CEL",
            lambda self: self.name not in _CEL_RESERVED,
        ),
    )


class ApprovalSpec(Model):
    """Who must agree before the request runs, and for how long things hold."""

    groups: tuple[GroupName, ...] = Field(
        min_length=1, max_length=32, description="Groups whose members may approve.", json_schema_extra=LIST_SET
    )
    min_approvals: Annotated[StrictInt, Field(ge=1, le=16)] = Field(
        default=1, description="How many different people must approve."
    )
    pending_ttl: Annotated[float, *duration("10s", "168h")] = Field(
        default=900.0, description="How long the question stays open."
    )
    grant_ttl: Annotated[float, *duration("10s", "168h")] = Field(
        default=600.0, description="How long an approval may be used, once."
    )
    scope: Literal["ExactRequest"] = Field(
        default="ExactRequest", description="What a grant covers. ExactRequest: this request of this subject, once."
    )
    wait: Annotated[float, *duration("0s", "1h")] = Field(
        default=30.0, description="How long the gateway holds the request open for an answer before it denies it."
    )


class Pattern(Model):
    """A detector of your own."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*$")] = (
        Field(description="Name, for messages and tests.")
    )
    regex: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="Regular expression in RE2 syntax. What it matches is masked."
    )


class MaskStrategy(Model):
    """How a value is replaced."""

    type: Literal["Redact", "Partial", "Pseudonym", "Null"] = Field(
        default="Redact",
        description="Redact: by a fixed text. Partial: all but the first and last characters. Pseudonym: by an HMAC of "
        "the value, so that equal values stay equal. Null: by null.",
    )
    keep_first: Annotated[StrictInt, Field(ge=0, le=64)] = Field(
        default=0, description="Partial: characters to keep at the beginning."
    )
    keep_last: Annotated[StrictInt, Field(ge=0, le=64)] = Field(
        default=0, description="Partial: characters to keep at the end."
    )
    char: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        default="*", description="Partial: what stands for each hidden character."
    )
    replacement: Annotated[str, StringConstraints(max_length=256)] = Field(
        default="[redacted]", description="Redact: the text that stands in the place of the value."
    )
    key_ref: SecretKeyRef | None = Field(default=None, description="Pseudonym: the key of the HMAC, in a Secret.")

    validations = (
        Validation(
            "has(self.keyRef) == (self.type == 'Pseudonym')",
            "keyRef is needed for Pseudonym, and for nothing else",
            lambda self: (self.key_ref is not None) == (self.type == "Pseudonym"),
        ),
        Validation(
            "self.type == 'Partial' || self.keepFirst == 0 && self.keepLast == 0",
            "keepFirst and keepLast are for Partial",
            lambda self: self.type == "Partial" or (self.keep_first == 0 and self.keep_last == 0),
        ),
    )


_PART = r'(?:\*|[^.*" \t\r\n]+|"(?:[^"]|"")+")'
_COLUMN = rf"^{_PART}(?:\.{_PART}){{1,2}}$"


class Masking(Model):
    """One thing to hide: exactly one of column, jsonPath, detector and pattern, and how."""

    column: Annotated[str, StringConstraints(min_length=3, max_length=200, pattern=_COLUMN)] | None = Field(
        default=None,
        description="Postgres: `schema.table.column`, or `table.column` for schema public. "
        "Names as in the catalog, in double quotes if they hold a dot, a space or a star; `*` alone is any.",
    )
    json_path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\$")] | None = Field(
        default=None, description="Kubernetes: a path in the object, like `$.data.*`."
    )
    detector: Detector | None = Field(
        default=None,
        description="Whatever looks like this, in any text value, check digits included where there are some.",
    )
    pattern: Pattern | None = Field(
        default=None, description="Whatever matches a regular expression of your own, in any text value."
    )
    strategy: MaskStrategy = Field(
        default=MaskStrategy(), description="How a value is replaced; default: by a fixed text."
    )

    validations = (
        Validation(
            "[has(self.column), has(self.jsonPath), has(self.detector), has(self.pattern)].filter(x, x).size() == 1",
            "exactly one of column, jsonPath, detector, pattern must be set",
            lambda self: sum(x is not None for x in (self.column, self.json_path, self.detector, self.pattern)) == 1,
        ),
    )

    @property
    def column_parts(self) -> tuple[str, str, str]:
        """Schema, table and column of `column`."""
        if self.column is None:
            raise ValueError("this mask is not on a column")
        parts = [part[1:-1].replace('""', '"') if part[0] == '"' else part for part in re.findall(_PART, self.column)]
        schema, table, column = parts if len(parts) == 3 else ["public", *parts]
        return schema, table, column

    @property
    def target(self) -> str:
        """What is masked, for people and tests: the column, the path, or the name of the detector or pattern."""
        return self.column or self.json_path or self.detector or (self.pattern.name if self.pattern else "")


class Rule(Model):
    """One rule."""

    name: DnsLabel = Field(description="Name of the rule, unique in the policy.")
    description: Annotated[str, StringConstraints(max_length=1024)] = Field(
        default="", description="What the rule is for, for people who read the policy."
    )
    action: Action = Field(
        description="What happens to a request for which the rule holds. The strictest of a priority wins: Deny, "
        "RequireApproval, Allow. Mask and Audit add up."
    )
    expression: Expression | None = Field(
        default=None,
        description="CEL; the rule holds if it gives true. An error denies. Mask and Audit may go without: always.",
    )
    enforcement: Enforcement | None = Field(
        default=None, description="Enforce, or Audit: decide and record, do not act. Default: that of the policy."
    )
    message: Text | None = Field(
        default=None, description="What the agent is told when the rule decides against its request."
    )
    message_expression: Expression | None = Field(
        default=None, description="CEL that gives the message; message is used where it fails."
    )
    hint: Text | None = Field(default=None, description="What the agent could do instead.")
    approval: ApprovalSpec | None = Field(
        default=None, description="RequireApproval: who must agree, and for how long that holds."
    )
    masking: tuple[Masking, ...] = Field(
        default=(),
        max_length=64,
        description="Mask: what to hide in responses, and how.",
        json_schema_extra=LIST_ATOMIC,
    )

    validations = (
        Validation(
            "has(self.approval) == (self.action == 'RequireApproval')",
            "approval must be set for action RequireApproval, and only there",
            lambda self: (self.approval is not None) == (self.action == "RequireApproval"),
        ),
        Validation(
            "(has(self.masking) && size(self.masking) > 0) == (self.action == 'Mask')",
            "masking must be set for action Mask, and only there",
            lambda self: bool(self.masking) == (self.action == "Mask"),
        ),
        Validation(
            "has(self.expression) || self.action in ['Mask', 'Audit']",
            'expression is needed for Deny, RequireApproval and Allow; write "true" if the rule always holds',
            lambda self: self.expression is not None or self.action in ("Mask", "Audit"),
        ),
    )


class GatewayPolicySpec(Model):
    """What is wanted."""

    enforcement: Enforcement = Field(
        default="Enforce", description="Enforce, or Audit: decide and record, do not act. A rule may have its own."
    )
    priority: Annotated[StrictInt, Field(ge=-1000, le=1000)] = Field(
        default=0,
        description="The highest priority at which a Deny, RequireApproval or Allow rule holds decides. Over 0 only in "
        "the system namespace.",
    )
    not_after: Timestamp | None = Field(
        default=None, description="The policy is in force until then. Not on a policy that has a Deny rule."
    )
    match: Match = Field(
        default=Match(),
        description="Which Connections and subjects the policy is for; without it, all of its namespace.",
    )
    match_conditions: tuple[MatchCondition, ...] = Field(
        default=(),
        max_length=64,
        description="CEL conditions, all of which must hold for the policy to be in force for a request.",
        json_schema_extra=list_map("name"),
    )
    variables: tuple[Variable, ...] = Field(
        default=(),
        max_length=64,
        description="Values with names, for the expressions of this policy.",
        json_schema_extra=list_map("name"),
    )
    rules: tuple[Rule, ...] = Field(
        min_length=1,
        max_length=128,
        description="The rules, in any order: what holds is found by priority and strictness, not by place.",
        json_schema_extra=list_map("name"),
    )
    tests: tuple[PolicyTest, ...] = Field(
        default=(),
        max_length=256,
        description="Cases that gate acceptance: a failing one and the policy is not accepted.",
        json_schema_extra=list_map("name"),
    )

    validations = (
        Validation(
            "!has(self.notAfter) || !self.rules.exists(r, r.action == 'Deny')",
            "notAfter is not allowed on a policy that has a Deny rule: when it expired, what it denies would be open",
            lambda self: self.not_after is None or not any(rule.action == "Deny" for rule in self.rules),
        ),
    )


class ExpressionProblem(StatusModel):
    """What is wrong with one expression."""

    field: Annotated[str, StringConstraints(max_length=512)] = Field(
        description="Path of the field, for example spec.rules[2].expression."
    )
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(
        description="What is wrong with it, and what to write instead where that is known."
    )


class GatewayPolicyStatus(StatusModel):
    """What is. The operator writes it."""

    observed_generation: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="The generation of the spec that this was worked out from."
    )
    conditions: Conditions = Field(
        default=(),
        max_length=16,
        description="Accepted: the spec is in force; if not, the last accepted one is, or all is denied "
        "that it matches. Programmed: every ready pod of the gateways that it concerns has "
        "loaded it.",
        json_schema_extra=list_map("type"),
    )
    connections: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="How many Connections it matches, in all namespaces that it reaches."
    )
    revision: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="Revision of the spec that is in force: the last one that was accepted."
    )
    expressions: tuple[ExpressionProblem, ...] = Field(
        default=(),
        max_length=256,
        description="What is wrong with the spec, each with the path of its field.",
        json_schema_extra=LIST_ATOMIC,
    )


class GatewayPolicy(Resource):
    """Rules in CEL, matched to Connections and subjects."""

    plural: ClassVar[str] = "gatewaypolicies"
    short_names: ClassVar[tuple[str, ...]] = ("gwpol",)
    printer_columns = (
        {"name": "Enforcement", "type": "string", "jsonPath": ".spec.enforcement"},
        {"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"},
        {"name": "Connections", "type": "integer", "jsonPath": ".status.connections"},
        {"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"},
        {"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"},
        {"name": "Expires", "type": "string", "jsonPath": ".spec.notAfter", "priority": 1},
        PROBLEM_COLUMN,
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    )

    kind: Literal["GatewayPolicy"] = Field(default="GatewayPolicy", description="GatewayPolicy.")
    spec: GatewayPolicySpec = Field(
        description="What is wanted: whom and what the policy is for, its rules, and the cases that it must pass."
    )
    status: GatewayPolicyStatus | None = Field(
        default=None,
        description="What is: the operator writes it, and says field by field what is wrong with the spec.",
    )
