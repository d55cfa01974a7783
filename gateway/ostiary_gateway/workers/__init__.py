"""Several processes that serve as one gateway: a supervisor and its workers, on the same ports."""
