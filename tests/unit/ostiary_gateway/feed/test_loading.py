"""Loading manifests: what is refused, what is only noted, and where."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest
import yaml

from ostiary_gateway.feed import files
from ostiary_gateway.feed.loading import Loaded, Rejected, compile_texts, load

CONNECTION = """\
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: NAME, namespace: prod}
spec:
  protocol: Postgres
  upstream: {host: db.example}
  credentials: {static: {secretRef: {name: login}}}
  listener: {port: PORT}
"""

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: prod}
stringData: {username: app, password: hunter2}
"""


def connection(name: str = "app", port: int = 6432) -> str:
    return CONNECTION.replace("NAME", name).replace("PORT", str(port))


def rejected(**texts: str) -> list[str]:
    outcome = compile_texts({f"{name}.yaml": text for name, text in texts.items()})
    assert isinstance(outcome, Rejected)
    return [str(problem) for problem in outcome.problems]


def test_a_connection_without_its_secret_is_refused() -> None:
    assert rejected(a=connection()) == [
        "a.yaml:7: Connection prod/app: spec.credentials.static.secretRef: there is no Secret login in namespace prod"
    ]


def test_a_secret_without_its_keys_is_refused() -> None:
    secret = SECRET.replace("username: app, ", "")
    assert rejected(a=connection(), b=secret) == [
        "a.yaml:7: Connection prod/app: spec.credentials.static.secretRef: Secret login has no username"
    ]


def test_two_connections_on_one_port_are_refused() -> None:
    assert rejected(a=connection(), b=connection("other"), c=SECRET) == [
        "b.yaml:8: Connection prod/other: spec.listener.port: port 6432 is also that of Connection prod/app; "
        "each needs its own"
    ]


def test_the_listeners_certificate_must_be_there() -> None:
    text = connection().replace("{port: 6432}", "{port: 6432, tls: {secretRef: {name: login}}}")
    assert rejected(a=text, b=SECRET) == [
        "a.yaml:8: Connection prod/app: spec.listener.tls.secretRef: Secret login has no tls.crt and no tls.key"
    ]


def authenticating(text: str) -> str:
    return connection() + "  authentication: " + text + "\n"


KEYS = """\
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: prod}
stringData: {jwks.json: '{"keys": []}', ca.crt: nothing}
"""
OIDC = "{oidc: [{name: corp, issuer: 'https://login.example.com', audiences: [a], SOURCE}]}"
FIELD = "a.yaml:9: Connection prod/app: spec.authentication"


def test_what_agents_are_checked_with_must_be_there_and_of_use() -> None:
    of_keys = authenticating(OIDC.replace("SOURCE", "jwksRef: {name: keys}"))
    of_authority = authenticating(OIDC.replace("SOURCE", "caRef: {name: keys}"))
    of_certificates = authenticating("{mtls: {caRef: {name: keys}, trustDomain: example.org}}")
    assert rejected(a=of_keys, b=SECRET) == [f"{FIELD}.oidc[0].jwksRef: there is no Secret keys in namespace prod"]
    without = KEYS.replace("jwks.json", "other.json")
    assert rejected(a=of_keys, b=SECRET, c=without) == [f"{FIELD}.oidc[0].jwksRef: Secret keys has no jwks.json"]
    assert "keys/jwks.json: the key set has no usable key" in rejected(a=of_keys, b=SECRET, c=KEYS)[0]
    assert "oidc corp: caRef holds no PEM certificate" in rejected(a=of_authority, b=SECRET, c=KEYS)[0]
    assert "mtls.caRef: keys/ca.crt holds no PEM certificate" in rejected(a=of_certificates, b=SECRET, c=KEYS)[0]


def test_a_connection_with_issuers_needs_no_token() -> None:
    outcome = compile_texts({"a.yaml": authenticating(OIDC.replace(", SOURCE", "")), "b.yaml": SECRET})
    assert isinstance(outcome, Loaded)
    assert not any("token" in str(notice) for notice in outcome.notices)


def test_manifests_without_a_connection_serve_nothing() -> None:
    assert rejected(a=SECRET) == ["a.yaml: there is no Connection in these manifests, so there is nothing to serve"]


def test_in_a_cluster_each_gateway_has_its_own_ports() -> None:
    texts = {"a.yaml": connection(), "b.yaml": connection("other"), "c.yaml": SECRET}
    assert isinstance(compile_texts(texts, in_cluster=True), Loaded)
    shared = {name: text.replace("spec:", "spec:\n  gateway: {name: both}", 1) for name, text in texts.items()}
    outcome = compile_texts(shared, in_cluster=True)
    assert isinstance(outcome, Rejected)
    assert "port 6432 is also that of Connection prod/app" in outcome.problems[0].message


def test_what_nobody_can_use_is_noted() -> None:
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET})
    assert isinstance(outcome, Loaded)
    assert [notice.message for notice in outcome.notices] == [
        "no policy is for it, so everything is denied",
        "no token is in namespace prod, so nobody can log in; see ostiary token create",
    ]


def test_service_accounts_alone_are_noted_where_there_is_no_cluster() -> None:
    outcome = compile_texts({"a.yaml": authenticating("{tokens: Refuse}"), "b.yaml": SECRET})
    assert isinstance(outcome, Loaded)
    assert (
        "only ServiceAccounts may log in, which a gateway outside of a cluster cannot check: nobody can"
        in outcome.notices[-1].message
    )
    in_cluster = compile_texts({"a.yaml": authenticating("{tokens: Refuse}"), "b.yaml": SECRET}, in_cluster=True)
    assert isinstance(in_cluster, Loaded)
    assert [notice.message for notice in in_cluster.notices] == ["no policy is for it, so everything is denied"]


def test_what_this_version_does_not_serve_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary_gateway.feed.references.LOBBIES", {})
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET})
    assert isinstance(outcome, Loaded), outcome
    assert "spec.protocol: Postgres is not served by this version, so nobody can connect" in str(outcome.notices[0])


def over_ssh(**secrets: str) -> Loaded | Rejected:
    """A Connection over SSH whose Secrets have these private keys."""
    text = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: host}
spec:
  protocol: SSH
  upstream: {host: h, hostKeys: [ssh-ed25519 AAAA]}
  credentials: {sshCertificate: {caSecretRef: {name: ca}, principals: [deploy]}}
  listener: {port: 2222, hostKeyRef: {name: host}}
  authentication: {sshCertificates: {caSecretRef: {name: login}}}
"""
    keys = {name: secrets.get(name) or asyncssh_key() for name in ("ca", "host", "login")}
    made = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"privateKey": key}}
        for name, key in keys.items()
    ]
    return compile_texts({"a.yaml": text, "b.yaml": yaml.safe_dump_all(made)})


def asyncssh_key(**more: str) -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh", **more).decode()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("ca", "spec.credentials.sshCertificate.caSecretRef"),
        ("host", "spec.listener.hostKeyRef"),
        ("login", "spec.authentication.sshCertificates.caSecretRef"),
    ],
)
def test_private_keys_that_cannot_be_used_are_found_before_anybody_comes(name: str, field: str) -> None:
    assert isinstance(over_ssh(), Loaded)
    encrypted = asyncssh_key(passphrase="secret", cipher_name="aes256-ctr")
    for key, says in ((encrypted, "is encrypted; take the passphrase off"), ("nonsense", "is no private key")):
        outcome = over_ssh(**{name: key})
        assert isinstance(outcome, Rejected)
        assert [problem.field for problem in outcome.problems] == [field]
        assert says in outcome.problems[0].message
        assert key[40:60] not in str(outcome.problems[0]) or key == "nonsense"


def test_no_secret_is_in_what_is_shown() -> None:
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET})
    assert "hunter2" not in repr(outcome)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"kind: \xff", "is not UTF-8 text"), (b"#" * (files.MAX_FILE + 1), "is larger than 8 MiB; split it")],
)
def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    outcome = load([tmp_path])
    assert isinstance(outcome, Rejected)
    assert message in str(outcome.problems[0])


def test_directories_are_read_in_depth_and_links_in_circles_once(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / "a.yml").write_text(connection())
    (tmp_path / "deep" / "around").symlink_to(tmp_path)
    (tmp_path / "b.yaml").write_text(SECRET)
    (tmp_path / ".hidden.yaml").write_text("kind: [")
    assert isinstance(load([tmp_path]), Loaded)


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone.yaml")
    outcome = load([tmp_path])
    assert isinstance(outcome, Rejected)
    assert "leads nowhere" in str(outcome.problems[0])


def test_what_is_only_checked_may_be_without_its_secrets() -> None:
    outcome = compile_texts({"a.yaml": connection()}, complete=False)
    assert isinstance(outcome, Loaded)
    assert "there is no Secret login in namespace prod" in [notice.message for notice in outcome.notices]


MASKING = """\
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: pii, namespace: prod}
spec:
  match: {connectionSelector: {}}
  rules:
  - {name: reads, action: Allow, expression: "true"}
  - name: masks
    action: Mask
    masking:
    - {column: public.customers.name, strategy: {type: Redact}}
    - MASK
---
apiVersion: v1
kind: Secret
metadata: {name: mask, namespace: prod}
stringData: {short: abc, good: 0123456789abcdef}
"""


@pytest.mark.parametrize(
    ("mask", "field", "message"),
    [
        ("{detector: CreditCard, strategy: {type: Partial, char: '0'}}", "strategy", "char '0' cannot hide a value"),
        (
            "{detector: Email, strategy: {type: Pseudonym, keyRef: {name: mask, key: short}}}", "strategy",
            "Pseudonym needs a key of at least 16 bytes",
        ),
        (
            "{detector: Email, strategy: {type: Pseudonym, keyRef: {name: nobody, key: k}}}", "strategy.keyRef",
            "there is no Secret prod/nobody",
        ),
        ("{pattern: {name: any, regex: 'a*'}, strategy: {type: Redact}}", "pattern.regex", "matches the empty string"),
        ("{pattern: {name: look, regex: '(?=a)'}, strategy: {type: Redact}}", "pattern.regex", "RE2"),
        (
            "{pattern: {name: huge, regex: '((a{100}){100}){100}'}, strategy: {type: Redact}}", "pattern.regex", "RE2",
        ),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_applied_is_found_when_it_is_loaded(mask: str, field: str, message: str) -> None:
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET, "c.yaml": MASKING.replace("MASK", mask)})
    assert isinstance(outcome, Loaded)
    (problem,) = map(str, outcome.problems)
    assert f"GatewayPolicy prod/pii: spec.rules[1].masking[1].{field}: " in problem
    assert message in problem


def test_a_mask_that_can_be_applied_is_accepted() -> None:
    mask = "{detector: Email, strategy: {type: Pseudonym, keyRef: {name: mask, key: good}}}"
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET, "c.yaml": MASKING.replace("MASK", mask)})
    assert isinstance(outcome, Loaded)
    assert outcome.problems == ()


POLICY_WITH_A_JSON_PATH = """\
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: hide, namespace: prod}
spec:
  match: {protocols: [PROTOCOLS]}
  rules:
  - name: secrets
    action: Mask
    masking: [{jsonPath: "$.data.*", strategy: {type: Redact}}]
"""


def test_a_mask_by_json_path_is_refused_where_it_would_hide_nothing() -> None:
    policy = POLICY_WITH_A_JSON_PATH.replace("PROTOCOLS", "Postgres, Kubernetes")
    (problem,) = rejected(a=connection(), b=SECRET, c=policy)
    assert problem.startswith("c.yaml:9: GatewayPolicy prod/hide: spec.rules[0].masking[0].jsonPath: it would mask no")


def test_a_mask_by_json_path_is_taken_in_a_policy_that_is_for_no_database() -> None:
    policy = POLICY_WITH_A_JSON_PATH.replace("PROTOCOLS", "Kubernetes")
    outcome = compile_texts({"a.yaml": connection(), "b.yaml": SECRET, "c.yaml": policy})
    assert isinstance(outcome, Loaded)
