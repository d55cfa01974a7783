"""What pages show: raw records, policies and approvals made into plain views. Pure, no I/O, no clock of its own."""
