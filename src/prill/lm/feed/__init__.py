"""Where training rows come from: pure functions of (seed, row number), one file a kind of source."""
