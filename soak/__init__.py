"""Long trials of a run's reliability: `make soak`; a short form of each is among the tests (docs/reliability.md)."""
