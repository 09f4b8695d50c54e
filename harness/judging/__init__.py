"""Judges claims: runs what a claim asks for, compares the results with it, gives a verdict, and runs the controls."""

# The modules that other rooms may import.
__all__ = [
    "answers",
    "bench",
    "evaluation",
    "jobs",
    "measurement",
    "methods",
    "records",
    "requests",
    "verbs",
    "verdict",
    "worth",
]
