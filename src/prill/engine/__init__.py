"""How a step is applied to many shards."""
