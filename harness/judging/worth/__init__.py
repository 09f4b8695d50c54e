"""What a verdict is worth: controls, mutants, coverage by the nodes that matter, and fresh seeds."""

# The modules that other rooms may import.
__all__ = ["coverage", "mutation_score", "reseeding"]
