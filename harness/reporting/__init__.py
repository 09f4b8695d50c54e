"""Turns records into reports: terminal, Markdown, JSON, HTML, differences, findings. Imports no torch."""

# The modules that other rooms may import.
__all__ = ["diff", "failure", "findings", "output", "report", "summary", "words", "xfail_ranges"]
