"""The operator: watches the resources of a cluster, works out what follows from them (reconcile), and applies it."""
