"""What lies beside the repository in some places: the original's recorded numbers, and small real data sets.

Tests that need it skip without.
"""

import os
from pathlib import Path

import pytest

OFFICIAL = Path(__file__).parents[2] / "shared" / "official"
GOLDEN = OFFICIAL / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden data of the original at {GOLDEN}")

DATA = Path(os.environ.get("UNIPERCEIVER_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "det_bccd").is_dir(), reason=f"no real data at {DATA}; set UNIPERCEIVER_DATA to their folder"
)
