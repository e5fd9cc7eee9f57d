"""Arms, trials and conclusions: what can be said, and how surely."""
