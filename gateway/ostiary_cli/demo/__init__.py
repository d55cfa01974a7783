"""The demo: a shop, a gateway in front of it, and an agent that misbehaves."""
