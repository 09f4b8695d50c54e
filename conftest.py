"""Makes the plugin work from a bare checkout; where it is installed, pytest finds it registered under this name."""

pytest_plugins = ["harness.plugin", "pytester"]
