"""What the gateway shows to a target in the agent's place."""
