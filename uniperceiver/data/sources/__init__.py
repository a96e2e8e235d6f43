"""SAMPLES: where data comes from. One file per format; the table below is all that a recipe's `format` can name."""
