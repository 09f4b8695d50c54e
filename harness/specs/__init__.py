"""Spec files, recipes, pins and role files, parsed and validated into frozen data. Imports no torch."""

# The modules that other subpackages may import.
__all__ = [
    "across",
    "claim",
    "fixture_files",
    "key_reference",
    "keys",
    "methods",
    "nodes",
    "parsing",
    "pins",
    "recipe",
    "roles",
    "schema",
    "siblings",
    "spec_files",
    "templates",
    "verbs",
]
