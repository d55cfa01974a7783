"""Sensitive values on their way to the agent: find them, and replace them."""
