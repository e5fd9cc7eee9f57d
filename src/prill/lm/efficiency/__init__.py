"""Ways to spend less on training: sparse weights, a smaller copy, averages for a decay, one epoch."""
