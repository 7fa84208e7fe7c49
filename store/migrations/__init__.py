"""Numbered SQL migrations of the DuckDB projection, `NNNN_name.sql`, read by `store.schema`."""
