"""What lies beside the repository in some places: the original's recorded numbers. Tests that need it skip without."""

from pathlib import Path

import pytest

OFFICIAL = Path(__file__).parents[2] / "shared" / "official"
GOLDEN = OFFICIAL / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden data of the original at {GOLDEN}")
