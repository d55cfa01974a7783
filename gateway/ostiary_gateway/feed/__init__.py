"""Where a gateway's bundle of manifests comes from."""
