"""The commands, called as a user calls them: output, exit codes, and what to do next when they fail."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console
from support.jwts import SigningKey, claims, ec_key, jwks

from ostiary_api.manifests import parse
from ostiary_cli.agent_token import generate, well_formed
from ostiary_cli.commands.sessions import session_table
from ostiary_cli.main import COMMANDS, cli
from ostiary_cli.options import default_data
from ostiary_gateway.audit.reader import Session

SHOP = str(Path(__file__).parents[3] / "examples" / "shop")


def ostiary(*arguments: str | Path, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin, prog_name="ostiary")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_help_lists_every_command_without_importing_one() -> None:
    program = (
        "import sys\nfrom ostiary_cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('ostiary_gateway', 'rich', 'celpy'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = ostiary(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: ostiary {name}")


def test_a_misspelt_command_gets_a_suggestion() -> None:
    result = ostiary("explian")
    assert result.exit_code == 2
    assert "Did you mean 'explain'?" in result.stderr


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_data() == Path("/state/ostiary")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_data() == Path.home() / ".local/state/ostiary"


def test_lint_accepts_the_examples() -> None:
    result = ostiary("lint", SHOP)
    assert result.exit_code == 0, result.output
    assert "1 Connection, 3 policies: all is well" in result.output


def test_lint_shows_every_problem_at_its_place(tmp_path: Path) -> None:
    text = (Path(SHOP) / "policies.yaml").read_text().replace("s.verb == 'TRUNCATE'", "s.vreb == 'TRUNCATE'")
    (tmp_path / "p.yaml").write_text(text.replace("action: Deny", "action: Denny", 1))
    result = ostiary("lint", tmp_path, SHOP + "/connection.yaml", "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    first = found["problems"][0]
    assert (first["severity"], first["line"], first["field"]) == ("error", 10, "spec.rules[0].action")
    assert "Did you mean Deny" in first["message"] or "Deny" in first["message"]
    (tmp_path / "p.yaml").write_text(text)
    result = ostiary("lint", tmp_path, SHOP + "/connection.yaml")
    assert result.exit_code == 1
    line = text.splitlines().index(next(line for line in text.splitlines() if "vreb" in line)) + 1
    assert f"p.yaml:{line}:" in result.output
    assert "vreb" in result.output


def test_lint_reports_a_failing_embedded_test(tmp_path: Path) -> None:
    text = (Path(SHOP) / "policies.yaml").read_text().replace("expect: Allow, rule: read", "expect: Deny")
    (tmp_path / "p.yaml").write_text(text)
    result = ostiary("lint", tmp_path)
    assert result.exit_code == 1
    assert "test 'agents read' failed: expected Deny, got Allow" in result.output


def test_lint_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    result = ostiary("lint", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "nowhere: error: cannot be read: No such file or directory" in result.output


def test_test_runs_the_policies_own_tests() -> None:
    result = ostiary("test", SHOP)
    assert result.exit_code == 0, result.output
    assert re.search(r"\d+ passed, 0 failed", result.output)
    results = json.loads(ostiary("test", SHOP, "--json").output)
    assert {item["passed"] for item in results} == {True}
    assert {"policy": "demo/agents", "test": "agents read", "decision": "Allow", "rule": "read"}.items() <= next(
        item for item in results if item["test"] == "agents read"
    ).items()


def test_test_exits_1_with_the_reason(tmp_path: Path) -> None:
    text = (Path(SHOP) / "policies.yaml").read_text().replace("expect: Allow, rule: read", "expect: Deny")
    (tmp_path / "p.yaml").write_text(text)
    result = ostiary("test", tmp_path)
    assert result.exit_code == 1
    assert "expected Deny, got Allow" in result.output


def explained(sql: str, subject: str = "planner,agents") -> dict[str, object]:
    result = ostiary("explain", "--as", subject, "--connection", "demo/shop", "--sql", sql, "--json", SHOP)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.output)
    return found


def test_explain_names_the_deciding_rule() -> None:
    found = explained("drop table customers")
    assert (found["policy"], found["rule"]) == ("demo/guard-rails", "no-drop")
    assert explained("select 1")["decision"] == "Allow"
    assert explained("select 1", "mallory")["decision"] == "Deny"


def test_explain_shows_facts_values_and_masks() -> None:
    result = ostiary(
        "explain", "--as", "planner,agents", "--connection", "shop", "--sql", "-", SHOP, stdin="select * from cards"
    )
    assert result.exit_code == 0, result.output
    assert "relations read: public.cards (*)" in result.output
    assert "s.readOnly = true" in result.output
    assert "column public.cards.number: Partial" in result.output


CLUSTER = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: cluster, namespace: demo}
spec:
  protocol: Kubernetes
  upstream: {server: "https://127.0.0.1:6443"}
  credentials: {static: {secretRef: {name: cluster}}}
  listener: {port: 6443}
---
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: guard, namespace: demo}
spec:
  match: {protocols: [Kubernetes]}
  rules:
  - name: large
    action: RequireApproval
    expression: "k8s.verb == 'patch' && k8s.object.spec.replicas > 10"
    approval: {groups: [sre]}
  - {name: no-secrets, action: Deny, expression: "k8s.resource == 'secrets'"}
  - {name: rest, action: Allow, expression: "k8s.verb != 'connect'"}
"""
WEB = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: %d}}"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return tmp_path / "cluster.yaml"


def about(cluster: Path, *arguments: str | Path, stdin: str | None = None) -> dict[str, Any]:
    result = ostiary(
        "explain", cluster, "--as", "bot,agents", "--connection", "cluster", "--json", *arguments, stdin=stdin
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_explain_takes_a_request_as_kubectl_says_it_with_a_manifest(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text(WEB % 50)
    found = about(cluster, "--k8s", "patch deploy/web -n shop", "-f", tmp_path / "web.json")
    assert (found["decision"], found["rule"]) == ("RequireApproval", "large")
    assert found["explanation"]["facts"]["path"] == "/apis/apps/v1/namespaces/shop/deployments/web"
    small = about(cluster, "--k8s", "patch deployments.v1.apps/web/scale", "-f", "-", stdin=WEB % 3)
    assert (small["decision"], small["rule"]) == ("Allow", "rest")


@pytest.mark.parametrize(
    "request_",
    ["get secrets -A", "get secret/a -n shop", "GET /api/v1/secrets?limit=1", "{verb: list, resource: secrets}"]
    + ["verb: watch\nresource: secrets\n", "delete secret/a --namespace=shop"],
)
def test_explain_takes_a_request_in_several_ways(cluster: Path, request_: str) -> None:
    for arguments, stdin in ((("--k8s", request_), None), (("--k8s", "-"), request_)):
        found = about(cluster, *arguments, stdin=stdin)
        assert (found["decision"], found["rule"]) == ("Deny", "no-secrets")


def test_explain_shows_a_command_that_would_be_run(cluster: Path) -> None:
    line = "connect po/web-0/exec -n shop -c app -it -- sh -c 'ls /'"
    result = ostiary("explain", cluster, "--as", "bot", "--connection", "cluster", "--k8s", line)
    assert result.exit_code == 0, result.output
    assert "connect pods/web-0/exec" in result.output
    assert "rbacVerb: create" in result.output
    assert '"command": ["sh", "-c", "ls /"]' in result.output
    assert "No rule allows this." in result.output


def test_explain_puts_a_manifest_where_the_request_has_an_object(cluster: Path, tmp_path: Path) -> None:
    web = tmp_path / "web.yaml"
    web.write_text(WEB % 2)
    for line, where in {
        "create deployments -n shop": {"object"},
        "delete deployments/web -n shop": {"oldObject"},
        "PUT /apis/apps/v1/namespaces/shop/deployments/web": {"object"},
        "DELETE /apis/apps/v1/namespaces/shop/deployments/web": {"oldObject"},
        "evict pods/web-0 -n shop": {"oldObject"},
        "POST /api/v1/namespaces/shop/pods/web-0/exec?command=ls": {"object", "oldObject"},
    }.items():
        web.write_text(WEB % 2 if "deploy" in line else "{kind: Pod, metadata: {name: web-0, namespace: shop}}")
        facts = about(cluster, "--k8s", line, "-f", web)["explanation"]["facts"]
        assert {name for name in ("object", "oldObject") if facts.get(name)} == where, line


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("one of --sql, --k8s, --ssh and --sftp", ()),
        ("one of --sql, --k8s, --ssh and --sftp", ("--sql", "select 1", "--k8s", "get pods")),
        ("is no Postgres Connection", ("--sql", "select 1")),
        ("say what is done to what", ("--k8s", "pods")),
        ("say it with a slash: pods/web-0", ("--k8s", "get pods web-0")),
        ("--watch is not known", ("--k8s", "get pods --watch")),
        ("-n wants a value", ("--k8s", "get pods -n")),
        ("leave out -n shop", ("--k8s", "GET /api/v1/pods -n shop")),
        ("there is no verb 'apply'", ("--k8s", "apply deployments/web -n shop")),
        ("No closing quotation", ("--k8s", "get 'pods")),
        ("there is no method FETCH", ("--k8s", "FETCH /api/v1/pods")),
        ("an empty segment", ("--k8s", "GET //api/v1/pods")),
        ("pods are in a namespace", ("--k8s", "delete pods/web-0")),
        ("Only one of", ("--k8s", "-", "-f", "-")),
        ("cannot be read", ("--k8s", "create pods", "-f", "nowhere.yaml")),
        ("Extra inputs", ("--k8s", "{verb: get, resources: pods}")),
    ],
)
def test_explain_says_what_is_wrong_with_a_request(cluster: Path, says: str, arguments: tuple[str, ...]) -> None:
    result = ostiary("explain", cluster, "--as", "bot", "--connection", "cluster", *arguments)
    assert result.exit_code in (2, 3)
    assert says in result.stderr


HOST = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: web, namespace: demo}
spec:
  protocol: SSH
  upstream:
    host: web.example
    hostKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIbmqPrIRWnWyXHyIkr6ECh7JUbpyFVuX3jlb5aFpnXT]
  credentials: {static: {secretRef: {name: web}}}
  listener: {port: 2222}
---
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: guard, namespace: demo}
spec:
  match: {protocols: [SSH]}
  rules:
  - {name: no-rm, action: Deny, expression: "ssh.commands.exists(c, c.program == 'rm')"}
  - name: restarts
    action: RequireApproval
    expression: "ssh.command.startsWith('systemctl ')"
    approval: {groups: [sre]}
  - {name: commands, action: Allow, expression: "ssh.kind == 'exec' && ssh.user == 'deploy'"}
  - {name: reads, action: Allow, expression: "ssh.kind == 'sftp' && ssh.readOnly && ssh.realPath.startsWith('/srv/')"}
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host.yaml").write_text(HOST)
    return tmp_path / "host.yaml"


@pytest.mark.parametrize(
    ("arguments", "decision", "rule"),
    [
        (("--ssh", "sudo rm -rf /", "--login", "deploy"), "Deny", "no-rm"),
        (("--ssh", "uptime", "--login", "deploy"), "Allow", "commands"),
        (("--ssh", "uptime"), "Deny", None),
        (("--ssh", "systemctl restart web"), "RequireApproval", "restarts"),
        (("--ssh", "{kind: shell}"), "Deny", None),
        (("--ssh", "kind: exec\ncommand: uptime\nuser: deploy\n"), "Allow", "commands"),
        (("--sftp", "read:/srv/a"), "Allow", "reads"),
        (("--sftp", "read:/etc/shadow"), "Deny", None),
        (("--sftp", "rename:/srv/a:/srv/b"), "Deny", None),
        (("--sftp", "session"), "Deny", None),
    ],
)
def test_explain_takes_requests_over_ssh(
    host: Path, arguments: tuple[str, ...], decision: str, rule: str | None
) -> None:
    asked = ("explain", host, "--as", "bot,agents", "--connection", "web", *arguments)
    result = ostiary(*asked, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["decision"], found.get("rule")) == (decision, rule)
    shown = ostiary(*asked)
    assert shown.exit_code == 0, shown.output
    assert "facts" in shown.output


def test_explain_shows_what_a_command_runs(host: Path) -> None:
    asked = ("explain", host, "--as", "bot", "--connection", "web", "--login", "deploy", "--ssh")
    shown = ostiary(*asked, "ls /srv && sudo rm -rf /srv/x").output
    assert "runs: rm" in shown
    assert "runAs: root" in shown
    assert "ssh.commands without rm → Allow" in shown
    assert "runs: ls" in ostiary(*asked, "-", stdin="ls /srv").output


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("one of --sql, --k8s, --ssh and --sftp", ("--ssh", "ls", "--sftp", "read:/a")),
        ("is no Kubernetes Connection", ("--k8s", "get pods")),
        ("say its path", ("--sftp", "read")),
        ("say target", ("--sftp", "rename:/a")),
        ("Extra inputs", ("--ssh", "{kind: exec, cmd: ls}")),
        ("say where the forward leads to", ("--ssh", "{kind: forward}")),
        ("line 2", ("--ssh", "kind: exec\n]")),
    ],
)
def test_explain_says_what_is_wrong_with_a_request_over_ssh(host: Path, says: str, arguments: tuple[str, ...]) -> None:
    result = ostiary("explain", host, "--as", "bot", "--connection", "web", *arguments)
    assert result.exit_code in (2, 3)
    assert says in result.stderr


def test_explain_of_an_unknown_connection_lists_those_that_are_there() -> None:
    result = ostiary("explain", "--as", "planner", "--connection", "nope", "--sql", "select 1", SHOP)
    assert result.exit_code == 3
    assert "Choose one of: demo/shop" in result.stderr


def test_a_token_is_shown_once_and_its_secret_holds_only_the_hash(tmp_path: Path) -> None:
    out = tmp_path / "token.yaml"
    result = ostiary("token", "create", "Planner Bot", "--groups", "agents, dev", "-n", "prod", "--out", out)
    assert result.exit_code == 0, result.output
    token = result.stdout.strip()
    assert well_formed(token)
    assert out.stat().st_mode & 0o777 == 0o600
    assert token not in out.read_text()
    secret = parse(out.read_text()).secret("prod", "token-planner-bot")
    assert secret is not None
    assert secret.token is not None
    assert (secret.token.username, secret.token.groups) == ("Planner Bot", ("agents", "dev"))
    assert secret.token.sha256 == hashlib.sha256(token.encode()).hexdigest()


def test_without_out_the_secret_is_on_stdout_and_the_token_is_not() -> None:
    result = ostiary("token", "create", "ann")
    assert yaml.safe_load(result.stdout)["metadata"] == {"name": "token-ann", "namespace": "default"}
    token = result.stderr.split()[-1]
    assert well_formed(token)
    assert token not in result.stdout


def test_token_create_overwrites_nothing(tmp_path: Path) -> None:
    out = tmp_path / "token.yaml"
    out.write_text("mine")
    result = ostiary("token", "create", "ann", "--out", out)
    assert result.exit_code == 3
    assert out.read_text() == "mine"


def test_tokens_differ_and_a_typing_error_shows() -> None:
    tokens = {generate() for _ in range(100)}
    assert len(tokens) == 100
    token = tokens.pop()
    assert len(token) == 53
    changed = token[:10] + ("a" if token[10] != "a" else "b") + token[11:]
    assert not well_formed(changed)
    assert not well_formed(token[:-1])
    assert not well_formed("")


@pytest.mark.parametrize("command", [["sessions"], ["session", "abc"], ["export"], ["verify"]])
def test_without_a_record_the_next_step_is_named(command: list[str], tmp_path: Path) -> None:
    result = ostiary(*command, "--data", tmp_path)
    assert result.exit_code == 3
    assert "Next:" in result.stderr
    assert "--data DIR" in result.stderr


@pytest.mark.parametrize("width", [80, 119, 120, 160])
def test_a_list_of_sessions_keeps_its_headers_ids_and_counts(width: int) -> None:
    found = [
        Session(1, "01m82yg4ptqk7p6b06b6", 0.0, 3599.0, "closed", "demo/shop", "Postgres",
                "planner", "Full", 12, 3, 0, 0, 1_234_567, 1_000_000_000),
        Session(2, "01m8319m9980kpsa5ky6", 0.0, None, "open", "a-long-namespace/and-a-long-name", "Postgres",
                "somebody.with.a.long.name@example.com", "Full", 1, 0, 0, 0, 0, 0),
    ]  # fmt: skip
    output = io.StringIO()
    console = Console(file=output, width=width)
    console.print(session_table(found, width))
    lines = output.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    for kept in ("Session", "Opened (UTC)", "Requests", "Denied", *(each.id for each in found)):
        assert kept in output.getvalue()
    assert "planner" in output.getvalue()
    assert len(lines) == 3 + len(found) + 1


def test_serve_refuses_manifests_with_problems(tmp_path: Path) -> None:
    result = ostiary("serve", SHOP, "--data", tmp_path, "--admin", "off")
    assert result.exit_code == 1
    assert "there is no Secret shop-db in namespace demo" in result.stderr
    assert "ostiary lint" in result.stderr


@pytest.mark.parametrize("address", ["9911", "localhost:", "localhost:port", "localhost:99999"])
def test_serve_refuses_an_admin_address_that_is_none(address: str) -> None:
    result = ostiary("serve", SHOP, "--admin", address)
    assert result.exit_code == 2
    assert "is no HOST:PORT" in result.stderr


def test_version_names_what_decides() -> None:
    found = json.loads(ostiary("version", "--json").output)
    assert {"ostiary", "python", "cel-expr-python", "postgast"} <= set(found)


# token inspect

CORP = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: app}
spec:
  protocol: Postgres
  upstream: {host: db}
  credentials: {static: {secretRef: {name: db}}}
  listener: {port: 6432}
  authentication:
    oidc:
    - {name: corp, issuer: "https://login.example.com", audiences: [ostiary], jwksRef: {name: keys}, claims: [team]}
"""


def corp(tmp_path: Path) -> SigningKey:
    key = ec_key()
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    keys["stringData"] = {"jwks.json": jwks(key).decode()}
    (tmp_path / "app.yaml").write_text(CORP)
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(keys))
    return key


def test_token_inspect_says_who_a_jwt_stands_for(tmp_path: Path) -> None:
    jwt = corp(tmp_path).token(claims(team="data"))
    result = ostiary("token", "inspect", tmp_path, "--connection", "app", stdin=jwt + "\n")
    assert result.exit_code == 0
    assert "accepted by oidc" in result.stdout
    assert "corp:planner" in result.stdout
    found = json.loads(ostiary("token", "inspect", tmp_path, "--connection", "app", "--json", stdin=jwt).stdout)
    assert (found["username"], found["claims"]) == ("corp:planner", {"team": "data"})
    (tmp_path / "policy.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "ostiary.dev/v1alpha1",
                "kind": "GatewayPolicy",
                "metadata": {"name": "teams"},
                "spec": {
                    "rules": [
                        {"name": "data", "action": "Allow", "expression": "request.subject.claims.team == 'data'"}
                    ]
                },
            }
        )
    )
    subject = json.dumps(found)
    explained = ostiary("explain", tmp_path, "--connection", "app", "--as", subject, "--sql", "select 1", "--json")
    assert json.loads(explained.stdout)["decision"] == "Allow"
    refused = ostiary("explain", tmp_path, "--connection", "app", "--as", '{"name": 7}', "--sql", "select 1")
    assert refused.exit_code == 2


def test_token_inspect_says_why_a_jwt_is_refused_and_repeats_nothing_of_it(tmp_path: Path) -> None:
    jwt = corp(tmp_path).token(claims(aud="another"))
    result = ostiary("token", "inspect", tmp_path, "--connection", "app", stdin=jwt)
    assert result.exit_code == 1
    assert "it is for another audience" in result.stdout
    assert "a JWT of https://login.example.com for the audience ostiary" in result.stdout
    assert not any(part in result.output for part in jwt.split("."))


def test_tokens_take_no_names_of_others() -> None:
    for arguments in (["system:admin"], ["spiffe://example.org/x"], ["me", "--groups", "a,system:masters"]):
        result = ostiary("token", "create", *arguments)
        assert result.exit_code == 3
        assert "not for tokens" in result.stderr
