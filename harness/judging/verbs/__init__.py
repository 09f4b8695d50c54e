"""The verbs of claims, one file each: how each verb is measured and compared with its expectation.

``variables.py`` is a part of ``patch``: which other variables would explain the outcome as well?
"""

# The modules that other rooms may import.
__all__ = ["patch"]
