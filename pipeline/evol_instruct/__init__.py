"""Evol-Instruct (arXiv 2304.12244): instructions evolved in depth and breadth, over rounds."""
