"""Benchmark items in training text: found, dropped or cut, reported, with the error rates of the finding."""

from prill.prepare.contamination.measure import Contamination
from prill.prepare.contamination.spec import ContaminationSpec, ContaminationTask

__all__ = ["Contamination", "ContaminationSpec", "ContaminationTask"]
