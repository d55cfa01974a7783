"""The web console: sessions, approvals, policies and what runs now, for people."""
