"""The CBF-QP safety filter: from one row and command limits to an admissible command. Independent of the drone."""

from drone_cbf.safety.filter import Filter, make_filter
from drone_cbf.safety.records import SLACK_TOLERANCE, Limits, Row, SafeCommand, Status

__all__ = ["SLACK_TOLERANCE", "Filter", "Limits", "Row", "SafeCommand", "Status", "make_filter"]
