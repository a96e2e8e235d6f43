"""What the library computed before its house was redrawn: losses, weights and answers, to the last bit."""
