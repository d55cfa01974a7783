"""The store of a team: the records of all gateways in one place, to search, review, verify, export and keep."""
