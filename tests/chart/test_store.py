"""What the chart makes of the values of the store and the console."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.cluster import ROOT
from support.helm import CHART, Manifest, helm, pick, refusal, rules, template

from ostiary_console.settings import Settings as ConsoleSettings
from ostiary_operator.settings import parse_settings
from ostiary_store.settings import parse as parse_store_settings
from ostiary_store.settings import parse_as

STORE: Manifest = {"store": {"enabled": True, "url": {"secretRef": {"name": "database"}}}}
BOTH: Manifest = STORE | {"console": {"enabled": True, "url": "https://ostiary.example.com"}}
EVERYTHING: Manifest = {
    "store": {
        "enabled": True,
        "url": {"secretRef": {"name": "database", "key": "dsn"}},
        "replicas": 3,
        "retention": {"record": "90d", "responses": "30d"},
        "recordings": {
            "bucket": "s3://recordings/prod",
            "endpoint": "https://minio.storage.svc:9000",
            "region": "eu-1",
            "caFile": "/run/ostiary/secrets/minio-ca/ca.crt",
            "secretRef": {"name": "minio", "accessKey": "user"},
        },
        "seal": {"every": "5s", "secretRef": {"name": "seal", "key": "ed25519"}},
        "anchors": [
            {"configMap": "auditors/ostiary-seals", "every": "5m"},
            {"http": "https://notary.example.com/seals", "tokenFile": "/run/ostiary/secrets/notary/token"},
        ],
        "exports": [
            {
                "name": "siem",
                "type": "OCSF",
                "url": "https://siem.example.com/in",
                "secretHeaders": {"Authorization": {"file": "/run/ostiary/secrets/siem/header"}},
                "only": ["Deny"],
            }
        ],
        "secrets": ["siem", "notary", "minio-ca"],
        "tls": {"secretRef": {"name": "store-cert"}},
        "keepLocal": "256Mi",
        "settings": {"maxBody": "32Mi"},
        "networkPolicy": {"egress": [{"ports": [{"port": 5432}]}]},
        "serviceAccount": {"annotations": {"role": "bucket"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"note": "one"},
        "podLabels": {"team": "audit"},
    },
    "console": {
        "enabled": True,
        "url": "https://ostiary.example.com",
        "hosts": ["ostiary-console.ostiary-system.svc"],
        "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
        "store": {"url": {"secretRef": {"name": "reader"}}},
        "oidc": [
            {
                "name": "corp",
                "issuer": "https://login.example.com",
                "clientID": "ostiary",
                "clientSecretRef": {"name": "oidc"},
                "groupsClaim": "groups",
                "groupsPrefix": "oidc:",
                "use": "Impersonate",
            }
        ],
        "impersonate": {"enabled": True, "groups": ["oidc:dba"]},
        "sessionKey": {"secretRef": {"name": "cookies", "keys": ["new", "old"]}},
        "tls": {"secretRef": {"name": "console-cert"}},
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"lb": "internal"}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "web", "annotations": {"note": "two"}},
        "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
    },
    "operator": {"secrets": ["chat"], "settings": {"rates": {"workers": 4}}},
    "metrics": {"annotations": True, "monitors": {"enabled": True}, "rules": {"enabled": True}},
}
EXAMPLE: Manifest = yaml.safe_load((ROOT / "examples" / "store" / "values.yaml").read_text())
PARTS = ("ostiary-store", "ostiary-console")


def pod(objects: list[Manifest], name: str) -> Manifest:
    found: Manifest = pick(objects, "Deployment", name)["spec"]["template"]
    return found


def settings(objects: list[Manifest], name: str) -> str:
    text: str = pick(objects, "ConfigMap", name)["data"][f"{name.removeprefix('ostiary-')}.yaml"]
    return text


def mounted(template: Manifest) -> dict[str, str]:
    """Where each Secret of a pod is."""
    (container,) = template["spec"]["containers"]
    places = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    return {
        each["secret"]["secretName"]: places[each["name"]] for each in template["spec"]["volumes"] if "secret" in each
    }


def test_helm_finds_nothing_wrong() -> None:
    for values in (STORE, BOTH, EVERYTHING, EXAMPLE):
        done = helm("lint", "--strict", str(CHART), values=values)
        assert done.returncode == 0, done.stdout + done.stderr


def test_without_the_values_there_is_neither() -> None:
    told = parse_settings(pick(template(), "ConfigMap", "ostiary-operator")["data"]["operator.yaml"])
    assert (told.gateway.store, told.gateway.console_account) == (None, "")
    names = {each["metadata"]["name"] for each in template()}
    assert not any(name.startswith(PARTS) for name in names)


@pytest.mark.parametrize("values", [STORE, BOTH, EVERYTHING], ids=["store", "both", "everything"])
def test_every_object_is_labelled_and_there_once(values: Manifest) -> None:
    objects = template(values)
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ostiary", each["metadata"]["name"]


@pytest.mark.parametrize("values", [STORE, EVERYTHING, EXAMPLE], ids=["few", "everything", "example"])
def test_the_store_understands_what_the_chart_tells_it(values: Manifest) -> None:
    told = parse_store_settings(settings(template(values), "ostiary-store"))
    assert (told.listen, told.admin) == ("0.0.0.0:8443", "0.0.0.0:9911")
    assert told.gateways is not None
    assert told.gateways.token_review


@pytest.mark.parametrize("values", [BOTH, EVERYTHING, EXAMPLE], ids=["few", "everything", "example"])
def test_the_console_understands_what_the_chart_tells_it(values: Manifest) -> None:
    told = parse_as(ConsoleSettings, settings(template(values), "ostiary-console"))
    assert told.cluster is True
    assert told.signin.tokens


def test_values_of_the_store_reach_it() -> None:
    told = parse_store_settings(settings(template(EVERYTHING), "ostiary-store"))
    assert (told.retention.record, told.retention.responses) == (90 * 86_400.0, 30 * 86_400.0)
    assert told.recordings is not None
    assert (told.recordings.bucket, told.recordings.region) == ("s3://recordings/prod", "eu-1")
    assert str(told.recordings.access_key_file) == "/run/ostiary/secrets/minio/user"
    assert str(told.recordings.secret_key_file) == "/run/ostiary/secrets/minio/secretKey"
    assert told.seal is not None
    assert told.seal.every == 5.0
    assert [each.config_map or each.http for each in told.anchors] == [
        "auditors/ostiary-seals",
        "https://notary.example.com/seals",
    ]
    assert told.exports[0].only == ("Deny",)
    assert told.max_body == 32 << 20


def test_secrets_are_files_and_each_pod_has_only_its_own() -> None:
    objects = template(EVERYTHING)
    assert mounted(pod(objects, "ostiary-store")) == {
        "database": "/run/ostiary/database",
        "store-cert": "/run/ostiary/tls",
        "seal": "/run/ostiary/seal",
        "siem": "/run/ostiary/secrets/siem",
        "notary": "/run/ostiary/secrets/notary",
        "minio-ca": "/run/ostiary/secrets/minio-ca",
        "minio": "/run/ostiary/secrets/minio",
    }
    assert mounted(pod(objects, "ostiary-console")) == {
        "reader": "/run/ostiary/database",
        "cookies": "/run/ostiary/sessions",
        "console-cert": "/run/ostiary/tls",
        "oidc": "/run/ostiary/secrets/oidc",
        "minio": "/run/ostiary/secrets/minio",
    }
    assert mounted(pod(objects, "ostiary-operator")) == {
        "store-cert": "/run/ostiary/store",
        "chat": "/run/ostiary/secrets/chat",
    }
    for name in (*PARTS, "ostiary-operator"):
        (container,) = pod(objects, name)["spec"]["containers"]
        assert all("secretKeyRef" not in each.get("valueFrom", {}) for each in container["env"])
        assert "envFrom" not in container


def test_the_operator_sees_the_stores_authority_and_not_its_key() -> None:
    (volume,) = [each for each in pod(template(STORE), "ostiary-operator")["spec"]["volumes"] if "secret" in each]
    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    # Where cert-manager is slower than the operator, gateways are told later.
    assert volume["secret"]["optional"] is True


def test_the_operator_learns_where_gateways_send_their_record() -> None:
    told = parse_settings(pick(template(EVERYTHING), "ConfigMap", "ostiary-operator")["data"]["operator.yaml"])
    assert told.gateway.store is not None
    assert told.gateway.store.url == "https://ostiary-store.ostiary-system.svc:8443"
    assert told.gateway.store.ca_file == "/run/ostiary/store/ca.crt"
    assert told.gateway.store.keep_local == 256 << 20
    assert told.gateway.console_account == "ostiary-system/ostiary-console"
    service = pick(template(EVERYTHING), "Service", "ostiary-store")
    assert [(each["name"], each["port"]) for each in service["spec"]["ports"]] == [("https", 8443), ("admin", 9911)]
    other = template(STORE, "--namespace", "doors")
    told = parse_settings(pick(other, "ConfigMap", "ostiary-operator")["data"]["operator.yaml"])
    assert told.gateway.store is not None
    assert told.gateway.store.url == "https://ostiary-store.doors.svc:8443"


@pytest.mark.parametrize("name", PARTS)
def test_the_pods_keep_the_restricted_standard(name: str) -> None:
    for values in (BOTH, EVERYTHING):
        spec = pod(template(values), name)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert spec["automountServiceAccountToken"] is False
        assert pick(template(values), "ServiceAccount", name)["automountServiceAccountToken"] is False


def test_both_are_the_gateways_image() -> None:
    objects = template(BOTH | {"gateway": {"image": {"tag": "1.2"}}, "images": {"registry": "r.example.com"}})
    for name in PARTS:
        (container,) = pod(objects, name)["spec"]["containers"]
        assert container["image"] == "r.example.com/ostiary-gateway:1.2"


def test_where_pods_go_is_said_as_for_the_operator() -> None:
    spec = pod(template(EVERYTHING), "ostiary-store")
    assert spec["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert spec["spec"]["tolerations"] == [{"key": "infra", "operator": "Exists"}]
    assert (spec["spec"]["affinity"], spec["spec"]["priorityClassName"]) == ({"nodeAffinity": {}}, "high")
    assert len(spec["spec"]["topologySpreadConstraints"]) == 2
    assert spec["metadata"]["labels"]["team"] == "audit"
    assert spec["metadata"]["annotations"]["note"] == "one"
    assert spec["metadata"]["annotations"]["prometheus.io/port"] == "9911"


def test_a_change_of_settings_restarts_the_pods_and_another_number_of_them_does_not() -> None:
    def mark(values: Manifest, name: str) -> str:
        text: str = pod(template(values), name)["metadata"]["annotations"]["ostiary.dev/settings"]
        return text

    for name, part in zip(PARTS, ("store", "console"), strict=True):
        more = BOTH | {part: BOTH[part] | {"replicas": 4}}
        other = BOTH | {part: BOTH[part] | {"settings": {"maxBody": "1Mi"}}}
        assert mark(BOTH, name) == mark(more, name)
        assert mark(BOTH, name) != mark(other, name)


# Keys that the chart makes


def test_keys_are_made_once_and_those_that_matter_later_are_left() -> None:
    objects = template(BOTH)
    seal = pick(objects, "Secret", "ostiary-store-seal")
    key = load_pem_private_key(base64.b64decode(seal["data"]["privateKey"]), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert seal["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    cookies = pick(objects, "Secret", "ostiary-console-sessions")
    assert len(base64.b64decode(cookies["data"]["key"])) >= 32


def test_the_certificate_is_for_the_service_and_its_authority_signs_nothing_else() -> None:
    secret = pick(template(STORE), "Secret", "ostiary-store-tls")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    authority, leaf = (
        x509.load_pem_x509_certificate(base64.b64decode(secret["data"][name])) for name in ("ca.crt", "tls.crt")
    )
    leaf.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "ostiary-store.ostiary-system.svc" in names.get_values_for_type(x509.DNSName)
    # Its key is nowhere.
    assert set(secret["data"]) == {"ca.crt", "tls.crt", "tls.key"}


def test_secrets_that_are_given_are_not_made() -> None:
    assert [each for each in template(EVERYTHING) if each["kind"] == "Secret"] == []


# Who may do what


def test_the_store_asks_whose_tokens_are_and_writes_its_anchor_and_no_more() -> None:
    objects = template(EVERYTHING)
    assert rules(pick(objects, "ClusterRole", "ostiary-store")) == [
        ("authentication.k8s.io", "tokenreviews", "create")
    ]
    (anchor,) = [
        each for each in objects if each["kind"] == "Role" and each["metadata"]["name"].startswith("ostiary-store")
    ]
    assert anchor["metadata"]["namespace"] == "auditors"
    assert anchor["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["ostiary-seals"],
            "verbs": ["get", "update", "patch"],
        }
    ]
    assert "data" not in pick(objects, "ConfigMap", "ostiary-seals", "auditors")


def test_the_console_makes_tokens_of_its_own_and_has_no_other_right_unless_it_acts_for_others() -> None:
    def bound(values: Manifest) -> list[str]:
        return [
            each["metadata"]["name"]
            for each in template(values)
            if each["kind"].endswith("RoleBinding")
            and any(subject["name"] == "ostiary-console" for subject in each.get("subjects", ()))
        ]

    assert bound(BOTH) == ["ostiary-console"]
    own = pick(template(BOTH), "Role", "ostiary-console", "ostiary-system")
    assert own["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": ["ostiary-console"],
            "verbs": ["create"],
        }
    ]
    assert sorted(bound(EVERYTHING)) == ["ostiary-console", "ostiary-console-impersonator"]
    role = pick(template(EVERYTHING), "ClusterRole", "ostiary-console-impersonator")
    (groups,) = [rule for rule in role["rules"] if rule["resources"] == ["groups"]]
    assert groups["resourceNames"] == ["system:authenticated", "oidc:dba"]
    assert {verb for _, _, verb in rules(role)} == {"impersonate"}
    assert {resource for _, resource, _ in rules(role)} == {"users", "groups"}


def test_recordings_are_read_by_whom_one_names_and_by_nobody_else() -> None:
    objects = template()
    virtual = {
        each["metadata"]["name"]: {verb for _, resource, verb in rules(each) if resource == "connections"}
        for each in objects
        if each["kind"] == "ClusterRole"
    }
    assert {name for name, verbs in virtual.items() if "review" in verbs} == {"ostiary-reviewer"}
    assert {name for name, verbs in virtual.items() if "terminate" in verbs} == {"ostiary-edit", "ostiary-terminator"}
    reviewer = pick(objects, "ClusterRole", "ostiary-reviewer")
    assert not any("aggregate" in label for label in reviewer["metadata"]["labels"])
    assert {verb for _, _, verb in rules(reviewer)} == {"get", "list", "watch", "review"}


def test_gateways_reach_the_stores_port_and_monitoring_the_other() -> None:
    policy = pick(template(BOTH), "NetworkPolicy", "ostiary-store")["spec"]
    ingest, admin = policy["ingress"]
    assert ingest["from"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "ostiary-gateway"}}}
    ]
    assert ([each["port"] for each in ingest["ports"]], [each["port"] for each in admin["ports"]]) == (
        ["https"],
        ["admin"],
    )
    assert policy["policyTypes"] == ["Ingress"]
    bound = pick(template(EVERYTHING), "NetworkPolicy", "ostiary-store")["spec"]
    assert bound["policyTypes"] == ["Ingress", "Egress"]
    assert bound["egress"] == [{"ports": [{"port": 5432}]}]
    web = pick(template(EVERYTHING), "NetworkPolicy", "ostiary-console")["spec"]["ingress"][0]
    assert web["from"] == [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]
    off = {"networkPolicy": {"enabled": False}}
    objects = template({part: BOTH[part] | off for part in BOTH})
    assert not [each for each in objects if each["kind"] == "NetworkPolicy"]


# The console


def test_values_of_the_console_reach_it() -> None:
    told = yaml.safe_load(settings(template(EVERYTHING), "ostiary-console"))
    assert told["url"] == "https://ostiary.example.com"
    assert told["hosts"] == ["ostiary-console.ostiary-system.svc"]
    assert told["trustedProxies"] == ["10.0.0.0/8", "fd00::/8"]
    assert told["store"]["urlFile"] == "/run/ostiary/database/url"
    assert told["sessions"]["keyFiles"] == ["/run/ostiary/sessions/new", "/run/ostiary/sessions/old"]
    assert told["tls"]["cert"] == "/run/ostiary/tls/tls.crt"
    assert "behindProxy" not in told
    (issuer,) = told["signin"]["oidc"]
    assert issuer["clientSecretFile"] == "/run/ostiary/secrets/oidc/clientSecret"
    assert "clientSecretRef" not in issuer
    assert yaml.safe_load(settings(template(BOTH), "ostiary-console"))["behindProxy"] is True


def test_people_reach_the_console_by_service_or_ingress_and_not_its_admin_port() -> None:
    objects = template(EVERYTHING)
    service = pick(objects, "Service", "ostiary-console")
    assert (service["spec"]["type"], [each["port"] for each in service["spec"]["ports"]]) == ("LoadBalancer", [8443])
    ingress = pick(objects, "Ingress", "ostiary-console")["spec"]
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": ["ostiary.example.com"], "secretName": "web"}]
    assert ingress["rules"][0]["host"] == "ostiary.example.com"
    assert not [each for each in template(BOTH) if each["kind"] == "Ingress"]


def test_one_replica_needs_no_budget() -> None:
    one = {part: BOTH[part] | {"replicas": 1} for part in BOTH}
    budgets = [each["metadata"]["name"] for each in template(one) if each["kind"] == "PodDisruptionBudget"]
    assert budgets == ["ostiary-operator"]
    assert len([each for each in template(BOTH) if each["kind"] == "PodDisruptionBudget"]) == 3


def test_monitors_find_both() -> None:
    objects = template(EVERYTHING)
    services = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Service"}
    for name, target in (("ostiary-store", "ostiary-store"), ("ostiary-console", "ostiary-console-admin")):
        monitor = pick(objects, "ServiceMonitor", name)["spec"]
        chosen = [
            each["metadata"]["name"]
            for each in services.values()
            if monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
        ]
        assert chosen == [target]
        assert monitor["endpoints"][0]["port"] in [each["name"] for each in services[target]["spec"]["ports"]]


def test_alerts_of_the_store_are_there_where_it_is() -> None:
    def groups(values: Manifest) -> list[str]:
        rule = pick(template(values), "PrometheusRule", "ostiary")
        return [each["name"] for each in rule["spec"]["groups"]]

    alone = {"metrics": {"rules": {"enabled": True}}}
    assert groups(alone) == ["ostiary-operator", "ostiary-gateway"]
    assert groups(alone | STORE) == ["ostiary-operator", "ostiary-gateway", "ostiary-store"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"store": {"enabled": True}}, "store.url.secretRef"),
        ({"store": {"url": "postgresql://a:b@c/d"}}, "url"),
        ({"store": {"retention": {"record": "3 months"}}}, "record"),
        ({"store": {"recordings": {"bucket": "s3://x", "accessKey": "a"}}}, "accessKey"),
        ({"store": {"exports": [{"name": "x", "type": "Syslog", "url": "https://x"}]}}, "type"),
        ({"store": {"seal": {"key": "x"}}}, "key"),
        ({"console": {"enabled": True, "url": "https://x"}}, "address of the database"),
        ({"console": {"enabled": True}, "store": STORE["store"]}, "console.url"),
        ({"console": {"oidc": [{"name": "x", "issuer": "https://x", "clientID": "x", "clientSecret": "y"}]}}, "oidc"),
        ({"console": {"impersonate": {"groups": ["system:masters"]}}}, "groups"),
        (
            BOTH
            | {
                "console": BOTH["console"]
                | {"oidc": [{"name": "x", "issuer": "https://x", "clientID": "x", "use": "Impersonate"}]}
            },
            "needs console.impersonate.enabled",
        ),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    assert says in refusal(values)
