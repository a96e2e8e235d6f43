"""What the command line does: the only folder where all rooms of the house meet."""
