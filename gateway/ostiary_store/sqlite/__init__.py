"""The store on SQLite: one file beside a gateway, with full-text search."""
