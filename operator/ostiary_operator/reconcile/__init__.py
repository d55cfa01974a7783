"""Observed → what should be there, and what to say of it. Pure: no I/O, no clock; the same input gives the same answer.

    acceptance    which revision of each policy is in force, and why not the newest
    gateways      the children of one gateway, and those that are left over
    connections   the status of a Connection
    policies      the status of a GatewayPolicy
    cluster       what is there once for the cluster
"""
