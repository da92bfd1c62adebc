"""The CBF-QP safety filter: from rows and command limits to an admissible command. Independent of the drone."""

from drone_cbf.safety.filter import Filter, make_filter
from drone_cbf.safety.records import SLACK_TOLERANCE, Limits, Row, Rows, SafeCommand, SafeCommands, Status
from drone_cbf.safety.rows_filter import RowsFilter, make_rows_filter

__all__ = [
    "SLACK_TOLERANCE",
    "Filter",
    "Limits",
    "Row",
    "Rows",
    "RowsFilter",
    "SafeCommand",
    "SafeCommands",
    "Status",
    "make_filter",
    "make_rows_filter",
]
