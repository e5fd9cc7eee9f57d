"""Duplicates: whole documents, near copies, and what repeats inside and across documents."""
