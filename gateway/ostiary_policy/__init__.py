"""Policy as code: what a request is (facts), what the rules say of it (a decision), and why. No I/O, no clock."""
