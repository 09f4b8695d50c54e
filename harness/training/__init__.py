"""Recipe → trained weights, with learning curves and a model card."""

# The modules that other rooms may import.
__all__ = ["card", "checkpoints", "curves", "plots", "reproduction", "runs"]
