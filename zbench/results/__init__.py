"""Published results: what `results/` holds, how it gets there, how it is read, and what guards it."""
