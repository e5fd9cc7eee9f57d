"""Telling text that a language model wrote, by what another one makes of each of its tokens."""
