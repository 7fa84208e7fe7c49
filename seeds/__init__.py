"""Seed tasks and the shots of the fixed prompts, JSON Lines; read by `pipeline.seeds`."""
