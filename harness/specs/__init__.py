"""Spec files, recipes, pins and role files, parsed and validated into frozen data. Imports no torch."""

# The modules that other subpackages may import.
__all__ = [
    "across",
    "claim",
    "fixtures",
    "key_reference",
    "keys",
    "methods",
    "metrics",
    "node_sets",
    "nodes",
    "parsing",
    "schema",
    "siblings",
    "spec_files",
    "templates",
    "verbs",
]
