"""Recorded requests decided again, by other policies: what would change."""
