"""Where things are, for tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"
FIXTURE = "add_d5_l2_h3"
HYPOTHESES = ROOT / "hypotheses"
