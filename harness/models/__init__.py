"""Fixture name → verified model: download, hash, load, store."""

# The modules that other rooms may import.
__all__ = ["bridge", "fetching", "fixtures", "hub", "references", "storage"]
