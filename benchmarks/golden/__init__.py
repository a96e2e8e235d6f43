"""The original release's recorded numbers against ours: python -m benchmarks.golden DIR."""
