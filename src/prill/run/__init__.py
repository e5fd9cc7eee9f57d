"""The run directory: fingerprints, records, atomic files, one lock, progress and events."""
