"""RUN + FILES OR DATA -> VECTORS: what the command `embed` does, in this process or in actors of a Ray cluster."""
