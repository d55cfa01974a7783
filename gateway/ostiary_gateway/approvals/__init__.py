"""Approvals: questions to people, the grants that come of them, and where they are kept."""
