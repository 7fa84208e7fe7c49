"""Prefect flows and the CLI: what starts, supervises and reports runs."""
