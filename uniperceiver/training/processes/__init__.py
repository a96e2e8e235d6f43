"""STEP -> PROCESSES: what training asks of those that make a step together; one process is such a team, too."""
