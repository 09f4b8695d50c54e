"""The verbs of claims, one file each: how each verb is measured and compared with its expectation.

``ablating.py`` is what ``ablate`` and ``keep`` share. Parts of ``patch`` are ``pair_counts.py``, and ``variables.py``:
which other variables would explain the outcome as well?
"""

# The modules that other rooms may import.
__all__ = ["metrics", "pair_counts", "patch"]
