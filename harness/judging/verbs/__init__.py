"""The verbs of claims, one file each: how each verb is measured and compared with its expectation."""

# The modules that other rooms may import.
__all__ = ["patch"]
