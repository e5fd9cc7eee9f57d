"""Laboratories in which the right choice is known, to test selectors, mixers and laws before web text."""
