"""The pytest plugin: every claim is a test item. Only this package imports pytest."""

from harness.plugin.hooks import (
    pytest_addoption,
    pytest_collect_file,
    pytest_configure,
    pytest_make_collect_report,
    pytest_report_header,
    pytest_runtest_makereport,
    pytest_xdist_make_scheduler,
)

# pytest finds a plugin's hooks in its module, which is this package.
__all__ = [
    "pytest_addoption", "pytest_collect_file", "pytest_configure", "pytest_make_collect_report",
    "pytest_report_header", "pytest_runtest_makereport", "pytest_xdist_make_scheduler",
]  # fmt: skip
