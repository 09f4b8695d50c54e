"""Tasks: their interface, questions and answers, addition, and the wrapper that checks a user's task."""

# The modules that other rooms may import.
__all__ = [
    "addition",
    "answers",
    "checked_task",
    "contract",
    "pairs",
    "positions",
    "questions",
    "registry",
    "user_task",
]
