"""The commands. Settings live in the recipe; the command line only says which recipe, where, and how loud.

Data goes to standard output, everything else to standard error. Heavy packages load inside the command
that needs them, so `prill --help` is instant.
"""

from prill.cli import studies, making, asking  # isort: skip - in the order in which help lists the commands
from prill.cli.app import app, main

__all__ = ["app", "asking", "main", "making", "studies"]
