"""Agents log in with ServiceAccount tokens, which a real API server reviews. Every wrong one is told why it is wrong.

The gateway has a ServiceAccount of its own, with the rights that the chart gives to gateways, and no more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
import yaml
from support import gateway as gateways
from support import servers
from support.cluster import Cluster
from support.jwts import claims, rsa_key
from support.servers import Server, Unavailable, free_port

from ostiary_gateway.feed.loading import Loaded, compile_texts, tuple_key
from ostiary_gateway.identity import token_review
from ostiary_gateway.identity.token_review import TokenReviews
from ostiary_gateway.kube.access import Access, from_kubeconfig
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.resources import Reviewed
from ostiary_gateway.server import Gateway

pytestmark = pytest.mark.cluster

GATEWAY = "ostiary-shop"
POLICY = gateways.policy(
    "planner-reads",
    [
        {"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"},
        {
            "name": "tidy-up",
            "action": "Allow",
            "expression": "sql.statements.all(s, s.readOnly || s.verb in ['UNLISTEN', 'RESET'] "
            "|| s.functions == ['pg_catalog.pg_advisory_unlock_all'])",
        },
    ],
)
"""What pools send when a connection is given back is no reading."""


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    try:
        server = servers.embedded("service-accounts")
    except Unavailable as failure:
        pytest.skip(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture(scope="module")
def access(cluster: Cluster) -> Iterator[Access]:
    """The gateway's way to the API server: its own token, and the right to review others'."""
    role = f"{cluster.namespace}-gateway"
    cluster.ok("create", "serviceaccount", GATEWAY)
    cluster.ok("create", "clusterrole", role, "--verb=create", "--resource=tokenreviews.authentication.k8s.io")
    cluster.ok("create", "clusterrolebinding", role, f"--clusterrole={role}",
               f"--serviceaccount={cluster.namespace}:{GATEWAY}")  # fmt: skip
    yield as_account(cluster, GATEWAY)
    cluster.ok("delete", "clusterrole,clusterrolebinding", role)


def as_account(cluster: Cluster, account: str) -> Access:
    found = from_kubeconfig(Path(cluster.environment["KUBECONFIG"]))
    token = cluster.ok("create", "token", account).strip()
    return Access(found.server, authorities=found.authorities, token=token)


class Wire:
    """A TCP relay before the API server, which a test can cut."""

    def __init__(self, access: Access) -> None:
        self._host, _, port = access.server.removeprefix("https://").rpartition(":")
        self._port = int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(self._host, self._port)
        pipes = [asyncio.create_task(_pipe(reader, below)), asyncio.create_task(_pipe(above, writer))]
        self._tasks.update(pipes)
        await asyncio.gather(*pipes, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class CountingClient(KubeClient):
    """The gateway's client of the API server, which counts what it asks."""

    reviews = 0

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = 10.0) -> Reviewed:
        self.reviews += 1
        return await super().review_token(token, audiences, timeout=timeout)


@dataclass
class House:
    """A gateway in this process, in front of a database, asking the API server through a wire."""

    cluster: Cluster
    gateway: Gateway
    wire: Wire
    kube: CountingClient

    @property
    def port(self) -> int:
        return self.gateway.endpoints[self.cluster.namespace, "shop"][1]

    def token(self, account: str = "planner", *arguments: str, audience: str = "ostiary") -> str:
        audiences = [f"--audience={audience}"] if audience else []
        return self.cluster.ok("create", "token", account, *audiences, *arguments).strip()

    async def connect(self, token: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="agent", database=servers.DATABASE, password=token, ssl=False
        )

    async def refused(self, token: str) -> asyncpg.PostgresError:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await (await self.connect(token)).close()
        assert token not in str(caught.value.as_dict())
        return caught.value


@pytest.fixture
async def house(cluster: Cluster, access: Access, database: Server, tmp_path: Path) -> AsyncIterator[House]:
    async with served(cluster, access, database, tmp_path) as found:
        cluster.ok("create", "serviceaccount", "planner")
        yield found
        cluster.ok("delete", "serviceaccount", "planner", "--ignore-not-found")


@contextlib.asynccontextmanager
async def served(
    cluster: Cluster, access: Access, database: Server, directory: Path, **spec: object
) -> AsyncIterator[House]:
    objects = [gateways.connection(database, 6432, name="shop", **spec), *gateways.secrets_for(database), POLICY]  # type: ignore[arg-type]
    for item in objects:
        item["metadata"]["namespace"] = cluster.namespace  # type: ignore[index]
    objects[0]["spec"]["listener"]["port"] = free_port()  # type: ignore[index]
    loaded = compile_texts({"all.yaml": yaml.safe_dump_all(objects)}, in_cluster=True)
    assert isinstance(loaded, Loaded), loaded
    secrets = {tuple_key(key): secret for key, secret in loaded.manifests.secrets.items()}
    wire = Wire(access)
    await wire.mend()
    async with (
        CountingClient(replace(access, server=f"https://127.0.0.1:{wire.port}")) as kube,
        Gateway(loaded.bundle, secrets, data=directory / "data", reviews=TokenReviews(kube)) as gateway,
    ):
        assert not gateway.troubles
        yield House(cluster, gateway, wire, kube)
    await wire.cut()


async def test_the_right_token_comes_in_with_asyncpg_and_psql(house: House) -> None:
    token = house.token()
    agent = await house.connect(token)
    assert await agent.fetchval("select 41 + 1") == 42
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="allows"):
        await agent.execute("create table t ()")
    await agent.close()
    psql = await asyncio.create_subprocess_exec(
        "psql", "-XAtc", "select 'hello'", f"host=127.0.0.1 port={house.port} user=agent dbname={servers.DATABASE}",
        env={**os.environ, "PGPASSWORD": token}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await psql.communicate()
    assert (out, err, psql.returncode) == (b"hello\n", b"", 0)


async def test_a_pool_reads_the_file_for_each_login(house: House, tmp_path: Path) -> None:
    """As docs/agents-in-a-cluster.md has it: the kubelet renews the token in its file."""
    file = tmp_path / "token"
    file.write_text(house.token())
    async with asyncpg.create_pool(
        host="127.0.0.1", port=house.port, user="planner", database=servers.DATABASE, ssl=False,
        password=file.read_text, min_size=1, max_size=2,
    ) as pool:  # fmt: skip
        assert await pool.fetchval("select 1") == 1
        file.write_text(house.token())
        async with pool.acquire() as first, pool.acquire() as second:
            assert await first.fetchval("select 1") + await second.fetchval("select 2") == 3
    assert house.kube.reviews == 2


async def test_a_token_of_a_pod_ends_with_the_pod(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_review, "FRESH", 0.0)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "planner-0"},
           "spec": {"serviceAccountName": "planner", "containers": [{"name": "a", "image": "a"}]}}  # fmt: skip
    house.cluster.ok("create", "-f", "-", manifest=pod)
    token = house.token("planner", "--bound-object-kind=Pod", "--bound-object-name=planner-0")
    await (await house.connect(token)).close()
    house.cluster.ok("delete", "pod", "planner-0", "--now")
    assert "its ServiceAccount, or the pod that it was made for, does not exist any more" in await soon(house, token)


async def soon(house: House, token: str) -> str:
    """What the gateway says once the API server's own memory of the token has ended (10 s)."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(asyncio.TimeoutError):
            try:
                await (await house.connect(token)).close()
            except asyncpg.PostgresError as refused:
                return str(refused)
        await asyncio.sleep(0.5)
    raise AssertionError("it is still taken")


@pytest.mark.parametrize(
    ("audience", "says"),
    [
        ("", "If it is the pod's own token for the API server: an agent must not hand that to anybody"),
        ("vault", "it is not for the audience ostiary"),
    ],
)
async def test_a_token_for_somebody_else_is_refused(house: House, audience: str, says: str) -> None:
    refused = await house.refused(house.token(audience=audience))
    assert says in str(refused)
    assert "serviceAccountToken.audience: ostiary" in (refused.hint or "")
    assert refused.sqlstate == "28P01"
    assert house.kube.reviews == 0, "it was not even shown to the API server"


async def test_a_token_for_the_api_server_too_is_refused(house: House) -> None:
    both = house.cluster.ok(
        "create", "token", "planner", "--audience=ostiary", "--audience=https://kubernetes.default.svc.cluster.local"
    ).strip()
    assert "it is for others than ostiary as well" in str(await house.refused(both))


async def test_what_this_cluster_has_not_signed_is_refused(house: House) -> None:
    good = house.token()
    payload = json.loads(_decode(good.split(".")[1]))
    forged = rsa_key().token(payload)
    assert "has not issued it; is it a token of another cluster?" in str(await house.refused(forged))
    elsewhere = rsa_key().token({**payload, "iss": "https://kubernetes.default.svc.other"})
    assert "is it a token of another cluster?" in str(await house.refused(elsewhere))
    head, _, signature = good.split(".")
    other = rsa_key().token({**payload, "sub": "system:serviceaccount:kube-system:admin"}).split(".")[1]
    assert "has not issued it" in str(await house.refused(f"{head}.{other}.{signature}"))


async def test_an_expired_token_and_garbage_are_refused(house: House) -> None:
    payload = {**claims("system:serviceaccount:x:y", lasts=-600), "aud": ["ostiary"], "kubernetes.io": {}}
    assert "it has expired; the kubelet renews the file" in str(await house.refused(rsa_key().token(payload)))
    assert "is no token that is known" in str(await house.refused("garbage"))
    assert "is not accepted" in str(await house.refused("eyJhbGciOiJub25lIn0.e30.x"))


async def test_a_deleted_service_account_ends_its_session_and_comes_in_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("AGAIN", 0.5), ("TICK", 0.5), ("FRESH", 0.0)):
        monkeypatch.setattr(token_review, name, seconds)
    token = house.token()
    agent = await house.connect(token)
    assert await agent.fetchval("select 1") == 1
    house.cluster.ok("delete", "serviceaccount", "planner")
    deadline = time.monotonic() + 60
    while not agent.is_closed() and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    assert agent.is_closed()
    assert "does not exist any more" in await soon(house, token)
    house.cluster.ok("create", "serviceaccount", "planner")
    assert "does not exist any more" in await soon(house, token), "another account of the same name is another"


async def test_while_the_api_server_is_away_nobody_new_comes_in_and_sessions_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("AGAIN", 0.5), ("TICK", 0.5), ("FRESH", 0.0)):
        monkeypatch.setattr(token_review, name, seconds)
    agent = await house.connect(house.token())
    await house.wire.cut()
    refused = await house.refused(house.token())
    assert refused.sqlstate == "57P03"
    assert "cannot be asked about ServiceAccount tokens now, and the gateway takes none unasked" in str(refused)
    await asyncio.sleep(2)
    assert await agent.fetchval("select 1") == 1
    await house.wire.mend()
    await (await house.connect(house.token())).close()
    await agent.close()


async def test_many_logins_with_one_token_make_one_review(house: House) -> None:
    agents = await asyncio.gather(*(house.connect(token) for token in [house.token()] * 50))
    assert house.kube.reviews == 1
    await asyncio.gather(*(agent.close() for agent in agents))


async def test_a_gateway_that_may_not_review_says_so_to_who_runs_it(
    cluster: Cluster, database: Server, tmp_path: Path
) -> None:
    cluster.ok("create", "serviceaccount", "nobody")
    async with served(cluster, as_account(cluster, "nobody"), database, tmp_path) as house:
        refused = await house.refused(house.token("nobody"))
        assert refused.sqlstate == "57P03"
        assert "tokenreviews" not in str(refused), "how the gateway is set up is nothing for agents"


async def test_a_connection_may_want_accounts_of_its_namespace_only(
    cluster: Cluster, access: Access, database: Server, tmp_path: Path
) -> None:
    elsewhere = replace(cluster, namespace="default")
    elsewhere.ok("create", "serviceaccount", f"{cluster.namespace}-stranger")
    authentication = {"serviceAccounts": "SameNamespace"}
    async with served(cluster, access, database, tmp_path, authentication=authentication) as house:
        token = elsewhere.ok("create", "token", f"{cluster.namespace}-stranger", "--audience=ostiary").strip()
        assert "takes no ServiceAccounts of other namespaces" in str(await house.refused(token))
        await (await house.connect(house.token(GATEWAY))).close()
    elsewhere.ok("delete", "serviceaccount", f"{cluster.namespace}-stranger")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_what_a_gateway_makes_of_a_token_can_be_asked_without_a_login(cluster: Cluster, tmp_path: Path) -> None:
    nowhere = Server(18, tmp_path, tmp_path, 5432, None)
    manifest = gateways.connection(nowhere, 6432)
    manifest["metadata"]["namespace"] = cluster.namespace
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(manifest))
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.ok("config", "view", "--raw", "--minify", "--flatten"))

    def inspect(token: str) -> subprocess.CompletedProcess[str]:
        command = ["token", "inspect", str(tmp_path / "app.yaml"), "--connection=app", f"--kubeconfig={config}"]
        return subprocess.run([*gateways.ostiary(), *command], input=token, env=gateways.environment(),
                              capture_output=True, text=True, timeout=60)  # fmt: skip

    good = inspect(cluster.ok("create", "token", "default", "--audience=ostiary"))
    assert "accepted by serviceAccount" in good.stdout, good.stderr
    assert f"system:serviceaccount:{cluster.namespace}:default" in good.stdout
    manifest["metadata"]["namespace"] = "elsewhere"
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(manifest))
    other = inspect(cluster.ok("create", "token", "default", "--audience=ostiary"))
    assert (other.returncode, "takes no ServiceAccounts of other namespaces" in other.stdout) == (1, True)
    bad = inspect(cluster.ok("create", "token", "default"))
    assert (bad.returncode, "it is not for the audience ostiary" in bad.stdout) == (1, True)
