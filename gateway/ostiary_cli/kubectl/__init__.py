"""`kubectl ostiary`: approvals in a cluster, by calling kubectl, so that every way to log in works that kubectl has."""
