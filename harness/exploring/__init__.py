"""Exploring a model before a claim is written: sweeps, role search, attention patterns, descriptions, drafts."""

# The modules that other rooms may import.
__all__ = [
    "attention",
    "attention_figures",
    "attention_page",
    "circuit_figures",
    "circuits",
    "description",
    "drafts",
    "metric_drafts",
    "minimal_sets",
    "role_search",
    "scan",
    "sufficient_heads",
    "sweeps",
    "top_tokens",
]
