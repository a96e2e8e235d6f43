"""RECIPE -> TURNS: the sizes of each task's training batches, and how often which of them is drawn."""
