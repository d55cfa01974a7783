"""The store on PostgreSQL: asyncpg, COPY in batches, partitions by the day on which a session was opened."""
