"""CHECKPOINTS OF THE ORIGINAL RELEASE -> OUR WEIGHTS: read, recognised, renamed, every tensor accounted for."""
