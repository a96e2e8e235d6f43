"""RECIPE -> PLAN: what a step of a run holds, computes and sends, before anything is trained (docs/parallel.md)."""
