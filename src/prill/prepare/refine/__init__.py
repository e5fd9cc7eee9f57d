"""Refining: cleaning programs that a small language model wrote for each document, parsed and executed."""
