"""Addition, the task that ships: its layout, arithmetic, causal model, sampling and question sets."""

# The modules that other rooms may import.
__all__ = [
    "arithmetic",
    "curve_names",
    "layout",
    "question_sets",
    "strata",
    "variables",
]
