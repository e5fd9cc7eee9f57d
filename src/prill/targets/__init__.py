"""Targets as data: samples and task items, split into a fit and a held-out part."""
