"""Random problems, and what the right answers are; see ``tests/fuzz.py``."""
