"""Prompts for language models, written as text templates in YAML: ``fixtures/prompts/NAME.yaml``."""

# The modules that other rooms may import.
__all__ = ["family", "filled", "filled_task", "repeated_task", "task", "tokens"]
