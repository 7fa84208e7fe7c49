"""Run directories (the truth) and DuckDB (their projection). Only this package opens the live file."""
