"""Names and labels of what the operator makes, so that operator, gateway and plugin find the same objects."""

from __future__ import annotations

import re

from ostiary_api.canonical import sha256_hex

PREFIX = "ostiary-"
MAX_CHILD = 57
"""Characters of a child's name: `-peers` still fits into a DNS label behind it."""

MANAGER = "ostiary-operator"
"""Field manager of the operator, and its value of the label managed-by."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
GATEWAY_LABEL = "ostiary.dev/gateway"
GATEWAY_NAMESPACE_LABEL = "ostiary.dev/gateway-namespace"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TAKEN = re.compile(r".*-(peers|part-\d+|[0-9a-f]{8})")
"""Plain names that would end like those of other children, or like a name that was cut."""


def child_name(name: str) -> str:
    """`ostiary-` and the name, as a DNS-1035 label of at most 57 characters. Different names have different children.

    A name that cannot be kept as it is (a dot, too long, or it would end like the name of another child, or as if it
    had been cut) is cut, and ends in a hyphen and the first 8 hex digits of its sha256.
    """
    if _LABEL.fullmatch(name) and len(PREFIX) + len(name) <= MAX_CHILD and not _TAKEN.fullmatch(name):
        return PREFIX + name
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    cut = (PREFIX + plain)[: MAX_CHILD - 9].rstrip("-")
    return f"{cut}-{sha256_hex(name.encode('utf-8', 'surrogatepass'))[:8]}"


def peers_name(gateway: str) -> str:
    """The headless Service whose addresses are the gateway's pods."""
    return child_name(gateway) + "-peers"


def bundle_part_name(gateway: str, part: int) -> str:
    """The ConfigMap with a part of the gateway's bundle; part 0 is the first, which the others are counted in."""
    return child_name(gateway) if part == 0 else f"{child_name(gateway)}-part-{part}"


def system_role_name(namespace: str, gateway: str) -> str:
    """Role and RoleBinding in the system namespace of a gateway that needs Secrets there.

    With more of the hash than other children: there the gateways of all namespaces are side by side, and nobody shall
    find a name that is taken for another's.
    """
    cut = child_name(f"{namespace}.{gateway}").rpartition("-")[0]
    return f"{cut}-{sha256_hex(f'{namespace}/{gateway}'.encode())[:32]}"


def service_host(connection: str, namespace: str) -> str:
    """Host name in the cluster of a Connection's Service."""
    return f"{child_name(connection)}.{namespace}.svc"


def child_labels(namespace: str, gateway: str) -> dict[str, str]:
    """Labels of every object that the operator makes for a gateway."""
    return {
        "app.kubernetes.io/name": "ostiary-gateway",
        "app.kubernetes.io/instance": gateway,
        MANAGED_BY_LABEL: MANAGER,
        "app.kubernetes.io/part-of": "ostiary",
        GATEWAY_LABEL: gateway,
        GATEWAY_NAMESPACE_LABEL: namespace,
    }


def pod_selector(namespace: str, gateway: str) -> dict[str, str]:
    """Labels that tell the gateway's pods from all others. A Deployment's selector cannot change, so these stay."""
    return {"app.kubernetes.io/name": "ostiary-gateway", GATEWAY_LABEL: gateway, GATEWAY_NAMESPACE_LABEL: namespace}
