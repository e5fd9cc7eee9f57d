"""Packed scoring: the log-probability of every token of many documents, without padding."""
