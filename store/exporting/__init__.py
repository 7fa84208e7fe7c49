"""The parts of an export: which rows, checked, split, in which shape, written how."""
