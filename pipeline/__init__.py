"""The methods of evoloom. Knows no Prefect, no DuckDB, no FastAPI."""
