"""The report: one page, and closing lines in the terminal, that say what was found and how surely.

Import what you need from its module: `model` holds the values that the pipeline fills, `evidence` takes
them from a study, `render` makes the page, `terminal` the closing lines. Nothing is re-exported here, so
that importing the package costs nothing.
"""

__all__: list[str] = []
