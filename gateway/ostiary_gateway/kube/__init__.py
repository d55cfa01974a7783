"""A small client of the Kubernetes API: what a gateway pod needs of it, and no more.

    async with KubeClient(in_cluster()) as client:
        found = await client.get(CONFIG_MAPS, "shop", "ostiary-app-db")

aiohttp is imported with the first request: a gateway outside of a cluster does not pay for it.
"""
