"""Where bundles come from: manifests in files now, a ConfigMap in a cluster."""
