"""Documents in and out: formats, remote paths, sidecar columns, tokens."""
