"""One folder for each protocol, all with the same modules: wire, state, facts, relay."""
