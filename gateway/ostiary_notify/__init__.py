"""Messages to people: what is asked of them, and what was denied. They inform and never decide."""
