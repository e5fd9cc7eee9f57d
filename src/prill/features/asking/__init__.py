"""Asking a language model behind an OpenAI-compatible endpoint: once, within a budget, answers kept."""
