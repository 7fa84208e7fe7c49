"""Is the tuned student better than its base? The same prompts, greedy, scored side by side."""
