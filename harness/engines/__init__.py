"""Run a model under interventions: `hooks` is the reference engine, `cone` the fast engine."""

# The modules that other rooms may import.
__all__ = ["engine", "groups", "hooks", "interventions", "names", "predictions", "transformer"]
