"""Tasks: their interface, batches of prompts, the families that ship, and the wrapper that checks a user's task."""

# The modules that other rooms may import.
__all__ = [
    "answers",
    "batch",
    "contract",
    "donors",
    "family",
    "pairs",
    "positions",
    "prompts",
    "questions",
    "registry",
    "user_task",
]
