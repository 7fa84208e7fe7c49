"""Prompt templates, one Jinja2 file a prompt and API; read by `pipeline.prompting`."""
