"""One file per published scoring method."""
