"""The run: a pure function of its manifest and the teacher's completions (DESIGN.md, core idea)."""
