"""Addition: its layout, arithmetic, causal model, sampling, question sets, sub-tasks, roles, and keys of files."""

# The modules that other rooms may import: none. They ask the task.
__all__: list[str] = []
