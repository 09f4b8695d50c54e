"""Tools that do not depend on models: errors, text, whole files, YAML with positions, validation, intervals."""

# The modules that other rooms may import.
__all__ = [
    "errors", "files", "intervals", "own_code", "ranges", "seeds", "text", "validation", "yaml_insert", "yaml_text",
    "yamlfile",
]  # fmt: skip
