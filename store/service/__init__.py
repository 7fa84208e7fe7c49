"""What the REST service must remember at once, in a SQLite database of its own beside the store.

A POST never waits for the live DuckDB file: what it stores goes here first, durably, and reaches
DuckDB at the next ingest (`store.service.projection`).
"""
