"""The verbs of a spec, one module each: the keys, the claim class, the parser."""

# The modules that other subpackages may import.
__all__ = ["ablate", "ablating", "answer", "attend", "keep", "learn", "patch", "patch_from"]
