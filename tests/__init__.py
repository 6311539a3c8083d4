"""Tests, in the rooms of what they test: unit (one module), contract (formats, HTTP, commands), e2e (all together)."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
SHARED_DATA = ROOT.parent / "shared" / "data"  # real data beside the project; tests that need it skip without
