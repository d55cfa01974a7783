"""SSH, between agents and their targets."""
