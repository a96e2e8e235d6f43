"""WHO HURTS WHOM: how a step on one task changes the loss of another, from gradients of shared parameters."""
