"""Objects that would run code when a pickle that holds them is read: each leaves a file named `canary`."""

from __future__ import annotations

import os


class Evil:
    """Unpickling one calls the function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


EVIL = {
    "os.system": Evil(os.system, "touch canary"),
    "exec": Evil(exec, "open('canary', 'w')"),
    "open": Evil(open, "canary", "w"),
    "os.mkdir": Evil(os.mkdir, "canary"),
}
