"""One policy, compiled: its expressions checked in order, its masks resolved, its problems named."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ostiary_api.policy import ApprovalSpec, GatewayPolicy, Masking, Rule
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_policy
from ostiary_policy.decision import Approval, Matched, RuleRef
from ostiary_policy.environment import compile_re2
from ostiary_policy.expression import (
    Expression,
    ExpressionError,
    VariableType,
    Wanted,
    check_variable_type,
    compile_expression,
    nearest,
)
from ostiary_policy.facts import PROTOCOL_VARIABLE
from ostiary_policy.masking import NOTHING, ColumnMask, DetectorMask, JsonPathMask, MaskCheck, MaskPlan, Strategy
from ostiary_policy.schema import OPTIONAL

Secrets = Mapping[tuple[str, str], Secret]
"""Secrets by namespace and name."""

_indexes = itertools.count()
"""Numbers of variables are unique in a process, so that policies of two bundles can be evaluated together."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a policy is not accepted. `line` and `column` are in the expression of `field`; 0 if it is no expression."""

    namespace: str
    policy: str
    field: str
    message: str
    hint: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f":{self.line}:{self.column}" if self.line else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.namespace}/{self.policy}: {self.field}{where}: {self.message}.{hint}"


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A matchCondition."""

    name: str
    field: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class CompiledVariable:
    """A variable and its number at run time."""

    name: str
    field: str
    index: int
    expression: Expression


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule. `masks_if_erring`: the same fields, redacted."""

    name: str
    field: str
    action: str
    enforced: bool
    expression: Expression | None
    matched: Matched
    message: str
    message_expression: Expression | None
    hint: str
    approval: Approval | None
    masks: MaskPlan
    masks_if_erring: MaskPlan

    @property
    def ref(self) -> RuleRef:
        """The rule, by name and revision."""
        return self.matched.rule


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """An accepted policy, or (with `problems`) one that was never accepted and denies whatever it matches."""

    model: GatewayPolicy
    priority: int
    not_after: float | None
    conditions: tuple[CompiledCondition, ...]
    variables: tuple[CompiledVariable, ...]
    rules: tuple[CompiledRule, ...]
    secrets_digest: str
    tested: bool = False
    problems: tuple[Problem, ...] = ()
    enforced: bool = field(default=True)
    """Whether any of its rules acts."""
    together: Expression | None = None
    """A list of all rules' expressions that read no fact that may be absent, in the order of the rules, to be evaluated
    at once: most of the price of an evaluation is getting into the engine. It tells nothing if one of them errs."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.model.metadata.namespace, self.model.metadata.name

    @property
    def name(self) -> str:
        """`namespace/name`."""
        return self.model.key

    @property
    def revision(self) -> str:
        """Revision of the spec."""
        return self.model.revision


class _Compiler:
    def __init__(self, model: GatewayPolicy, secrets: Secrets, check_mask: MaskCheck | None = None) -> None:
        self.model = model
        self.check_mask = check_mask
        self.secrets = secrets
        self.problems: list[Problem] = []
        self.variables: dict[str, VariableType] = {}
        self.facts = self._facts()
        self.digest = hashlib.sha256()

    def _facts(self) -> tuple[str, ...]:
        protocols: tuple[str, ...] = self.model.spec.match.protocols or tuple(PROTOCOL_VARIABLE)
        return ("request", *(PROTOCOL_VARIABLE[name] for name in protocols))

    def problem(self, field_path: str, message: str, hint: str = "", line: int = 0, column: int = 0) -> None:
        meta = self.model.metadata
        self.problems.append(Problem(meta.namespace, meta.name, field_path, message, hint, line, column))

    def expression(self, field_path: str, text: str, wanted: Wanted) -> Expression | None:
        try:
            return compile_expression(text, facts=self.facts, variables=self.variables, wanted=wanted)
        except ExpressionError as error:
            for finding in error.findings:
                self.problem(field_path, finding.message, finding.hint, finding.line, finding.column)
            return None

    def compile_variables(self) -> tuple[CompiledVariable, ...]:
        compiled = []
        for number, variable in enumerate(self.model.spec.variables):
            path = f"spec.variables[{number}].expression"
            expression = self.expression(path, variable.expression, "any")
            if expression is None:
                continue
            refused = check_variable_type(expression.type)
            if refused:
                self.problem(path, refused, line=1, column=1)
                continue
            index = next(_indexes)
            self.variables[variable.name] = VariableType(variable.name, index, expression.type, expression.own_reads)
            compiled.append(CompiledVariable(variable.name, path, index, expression))
        return tuple(compiled)

    def compile_conditions(self) -> tuple[CompiledCondition, ...]:
        compiled = []
        for number, condition in enumerate(self.model.spec.match_conditions):
            path = f"spec.matchConditions[{number}].expression"
            expression = self.expression(path, condition.expression, "bool")
            if expression is not None:
                compiled.append(CompiledCondition(condition.name, path, expression))
        return tuple(compiled)

    def compile_rule(self, number: int, rule: Rule) -> CompiledRule:
        path = f"spec.rules[{number}]"
        meta, spec = self.model.metadata, self.model.spec
        expression = None
        if rule.expression is not None:
            expression = self.expression(f"{path}.expression", rule.expression, "bool")
        message_expression = None
        if rule.message_expression is not None:
            message_expression = self.expression(f"{path}.messageExpression", rule.message_expression, "string")
        enforced = (rule.enforcement or spec.enforcement) == "Enforce"
        masks = self.masks(f"{path}.masking", rule.masking)
        ref = RuleRef(meta.namespace, meta.name, rule.name, self.model.revision)
        return CompiledRule(
            name=rule.name,
            field=f"{path}.expression",
            action=rule.action,
            enforced=enforced,
            expression=expression,
            matched=Matched(ref, rule.action, enforced, spec.priority),
            message=rule.message or "",
            message_expression=message_expression,
            hint=rule.hint or "",
            approval=_approval(rule.approval),
            masks=masks,
            masks_if_erring=redacted(masks),
        )

    def compile_together(self, rules: tuple[CompiledRule, ...]) -> Expression | None:
        texts = [rule.expression.text for rule in rules if rule.expression is not None and is_together(rule)]
        if len(texts) < 2:
            return None
        # On lines of their own, since an expression may end in a comment.
        text = ",".join(f"(\n{text}\n)" for text in texts)
        try:
            return compile_expression(f"[{text}]", facts=self.facts, variables=self.variables, wanted="any")
        except ExpressionError:
            # Too many parts or levels in one. Each for itself is as good.
            return None

    def masks(self, path: str, masking: tuple[Masking, ...]) -> MaskPlan:
        columns: list[ColumnMask] = []
        json_paths: list[JsonPathMask] = []
        detectors: list[DetectorMask] = []
        for number, mask in enumerate(masking):
            known = len(self.problems)
            strategy = self.strategy(f"{path}[{number}].strategy", mask)
            made: ColumnMask | JsonPathMask | DetectorMask | None = None
            if mask.column is not None:
                columns.append(made := ColumnMask(*mask.column_parts, strategy))
            elif mask.json_path is not None:
                json_paths.append(made := JsonPathMask(mask.json_path, strategy))
            elif mask.detector is not None:
                detectors.append(made := DetectorMask(mask.detector, strategy))
            elif mask.pattern is not None:
                try:
                    compile_re2(mask.pattern.regex)
                except ValueError as error:
                    self.problem(f"{path}[{number}].pattern.regex", f"not a regular expression of RE2: {error}")
                detectors.append(made := DetectorMask(mask.pattern.name, strategy, mask.pattern.regex))
            if made is not None and self.check_mask is not None and len(self.problems) == known:
                wrong = self.check_mask(made)
                if wrong is not None:
                    self.problem(f"{path}[{number}].{wrong[0]}", wrong[1])
        return MaskPlan(tuple(columns), tuple(json_paths), tuple(detectors))

    def strategy(self, path: str, mask: Masking) -> Strategy:
        wanted = mask.strategy
        key = b""
        if wanted.key_ref is not None:
            key = self.key(f"{path}.keyRef", wanted.key_ref.name, wanted.key_ref.key)
        return Strategy(wanted.type, wanted.keep_first, wanted.keep_last, wanted.char, wanted.replacement, key)

    def key(self, path: str, name: str, key: str) -> bytes:
        namespace = self.model.metadata.namespace
        secret = self.secrets.get((namespace, name))
        if secret is None:
            known = tuple(other for space, other in self.secrets if space == namespace)
            self.problem(path, f"there is no Secret {namespace}/{name}", nearest(name, known, ""))
            return b""
        value = secret.data.get(key)
        if not value:
            what = "is empty" if value is not None else "is not there"
            self.problem(path, f"key {key!r} of Secret {namespace}/{name} {what}", nearest(key, dict(secret.data), ""))
            return b""
        self.digest.update(hashlib.sha256(value).digest())
        return value


def compile_policy(
    model: GatewayPolicy, secrets: Secrets, system_namespace: str, check_mask: MaskCheck | None = None
) -> tuple[CompiledPolicy, tuple[Problem, ...]]:
    """Compile; the second value says what is wrong, and then the first must not be put in force."""
    compiler = _Compiler(model, secrets, check_mask)
    spec = model.spec
    if model.metadata.namespace != system_namespace:
        if spec.priority > 0:
            compiler.problem(
                "spec.priority",
                f"a priority over 0 is only for policies in namespace {system_namespace}",
                "Use 0 or less.",
            )
        if spec.match.namespace_selector is not None:
            compiler.problem(
                "spec.match.namespaceSelector",
                f"namespaceSelector is only for policies in namespace {system_namespace}",
                "Without it the policy is for Connections of its own namespace.",
            )
    if spec.not_after is not None and any(rule.action == "Deny" for rule in spec.rules):
        compiler.problem("spec.notAfter", "a policy with a Deny rule cannot expire: what it denies would be open then")
    variables = compiler.compile_variables()
    conditions = compiler.compile_conditions()
    rules = tuple(compiler.compile_rule(number, rule) for number, rule in enumerate(spec.rules))
    policy = CompiledPolicy(
        model=model,
        priority=spec.priority,
        not_after=spec.not_after.timestamp() if spec.not_after is not None else None,
        conditions=conditions,
        variables=variables,
        rules=rules,
        secrets_digest=compiler.digest.hexdigest(),
        enforced=any(rule.enforced for rule in rules),
        together=None if compiler.problems else compiler.compile_together(rules),
    )
    return policy, tuple(compiler.problems)


def keys_digest(model: GatewayPolicy, secrets: Secrets) -> str | None:
    """`secrets_digest` of the policy, without compiling it. None if a key is missing."""
    digest = hashlib.sha256()
    for use in secrets_of_policy(model):
        secret = secrets.get((model.metadata.namespace, use.name))
        value = secret.data.get(use.keys[0]) if secret is not None else None
        if not value:
            return None
        digest.update(hashlib.sha256(value).digest())
    return digest.hexdigest()


def is_together(rule: CompiledRule) -> bool:
    """Whether the rule is one of those in `CompiledPolicy.together`."""
    return rule.expression is not None and not rule.expression.reads.facts & OPTIONAL


def broken_policy(policy: CompiledPolicy, problems: tuple[Problem, ...]) -> CompiledPolicy:
    """What stands for a policy that was never accepted: it has no rules, and denies whatever it matches."""
    return replace(policy, conditions=(), variables=(), rules=(), together=None, not_after=None, problems=problems)


def redacted(plan: MaskPlan) -> MaskPlan:
    """The same fields, withheld."""
    if not plan:
        return NOTHING

    def withheld(strategy: Strategy) -> Strategy:
        return strategy if strategy.type == "Null" else Strategy("Redact")

    return MaskPlan(
        tuple(replace(mask, strategy=withheld(mask.strategy)) for mask in plan.columns),
        tuple(replace(mask, strategy=withheld(mask.strategy)) for mask in plan.json_paths),
        tuple(replace(mask, strategy=withheld(mask.strategy)) for mask in plan.detectors),
    )


def _approval(spec: ApprovalSpec | None) -> Approval | None:
    if spec is None:
        return None
    return Approval(tuple(spec.groups), spec.min_approvals, spec.pending_ttl, spec.grant_ttl, spec.scope, spec.wait)
