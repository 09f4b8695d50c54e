"""The engines by name. Imports no torch.

An engine is a module with the functions of :class:`harness.engines.engine.Engine`. To add one, write the module and add
its line here; `auto` takes the first that does not refuse a model, and the last must take any.
"""

from __future__ import annotations

ENGINES: dict[str, str] = {
    "cone": "harness.engines.cone",
    "hooks": "harness.engines.hooks",
}
CHOICES = ("auto", *ENGINES)
