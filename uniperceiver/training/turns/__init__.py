"""What is told of the turns of tasks and shapes while they are trained: batches, tokens, times."""
