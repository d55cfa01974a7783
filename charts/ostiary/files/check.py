"""What `helm test` runs: is the API there, are operator and store ready, does admission refuse a forged question?"""

import json
import os
import pathlib
import ssl
import sys
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
NAMESPACE = os.environ["POD_NAMESPACE"]
KINDS = {"Connection", "GatewayPolicy", "ApprovalRequest"}
FORGED = {
    "apiVersion": "ostiary.dev/v1alpha1",
    "kind": "ApprovalRequest",
    "metadata": {"name": "helm-test", "namespace": NAMESPACE},
    "spec": {
        "request": {"hash": "0" * 64, "summary": "drop table customers"},
        "connectionRef": {"name": "helm-test", "uid": "helm-test"},
        "requester": {"username": "helm-test", "session": "helm-test"},
        "approval": {"groups": ["nobody"]},
        "policies": [{"namespace": NAMESPACE, "name": "helm-test", "rule": "helm-test", "revision": "helm-test"}],
    },
}


def call(url, body=None):
    """Status and text of an answer, whatever the status is."""
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"Content-Type": "application/json"})
    context = None
    if url.startswith(API):
        token = pathlib.Path(ACCOUNT, "token").read_text("ascii")
        request.add_header("Authorization", f"Bearer {token}")
        context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def discovery():
    status, text = call(f"{API}/apis/ostiary.dev/v1alpha1")
    missing = KINDS - {each["kind"] for each in json.loads(text)["resources"]} if status == 200 else KINDS
    return not missing, f"the API server does not serve {', '.join(sorted(missing))}: {status} {text[:200]}"


def operator():
    status, text = call(os.environ["OPERATOR"] + "/readyz")
    return status == 200, f"the operator is not ready: {status} {text.strip()}"


def store():
    status, text = call(os.environ["STORE"] + "/readyz")
    return status == 200, f"the store is not ready: {status} {text.strip()}"


def admission():
    path = f"/apis/ostiary.dev/v1alpha1/namespaces/{NAMESPACE}/approvalrequests?dryRun=All"
    status, text = call(API + path, FORGED)
    refused = status in (403, 422) and "only a gateway" in text
    return refused, f"a question that no gateway asked was not refused by admission: {status} {text[:400]}"


def main():
    failed = False
    checks = [
        ("the API server serves Connections, GatewayPolicies and ApprovalRequests", discovery),
        ("the operator is ready", operator),
        ("admission refuses a forged ApprovalRequest (dry run)", admission),
    ]
    if "STORE" in os.environ:
        checks.append(("the store can ask its database", store))
    for title, check in checks:
        ok, problem = check()
        failed = failed or not ok
        sys.stdout.write(f"ok      {title}\n" if ok else f"FAILED  {title}\n        {problem}\n")
    return int(failed)


sys.exit(main())
