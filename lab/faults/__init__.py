"""Faults of every kind, each at a known task of a run, and what became of the run: the fault suite's parts."""

from lab.faults.campaign import Campaign
from lab.faults.fault import Fault
from lab.faults.matrix import Cell, Report, as_markdown

__all__ = ["Campaign", "Cell", "Fault", "Report", "as_markdown"]
