"""The student: formatting, training, serving, evaluation."""
