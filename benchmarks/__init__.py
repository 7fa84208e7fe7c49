"""Speed and memory, measured; no test asserts a time."""
