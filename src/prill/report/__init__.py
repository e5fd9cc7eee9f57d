"""The report: one page, and closing lines in the terminal, that say what was found and how surely.

`model` holds the values that the pipeline fills, `render` makes the page, `terminal` the closing lines.
"""

from prill.report.model import ReportData

__all__ = ["ReportData"]
