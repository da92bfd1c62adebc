"""The forms in which a batch of observations may come, and the batch as fields by name.

Those of MLflow's protocol name the batch: ``inputs`` and ``instances`` hold fields by name or a list of records,
``dataframe_records`` a list of records, ``dataframe_split`` the columns of a table and its rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from drone_cbf.errors import ObservationError

FORMS = ("inputs", "instances", "dataframe_records", "dataframe_split")
_USE = 'send {"inputs": {"position": [[...]], ...}}'
_RECORDS = "a list of one dictionary per observation"


def batch_fields(given: Any) -> Mapping[str, Any]:
    """The fields of a batch by name, whatever form it has; their values are not checked.

    Raises ObservationError if ``given`` is no batch of fields, or has several forms.
    """
    if isinstance(given, pandas.DataFrame):
        return _columns(
            list(given.columns), [given[name].tolist() for name in given] if given.columns.is_unique else []
        )
    if isinstance(given, Mapping) and any(form in given for form in FORMS):
        return _named(given)
    if isinstance(given, Mapping):
        for name, value in given.items():
            if isinstance(value, Mapping) or _is_records(value):  # no field is of such a kind
                near = difflib.get_close_matches(name, FORMS, n=1)
                offer = f"did you mean {near[0]}?" if near else f"the forms: {', '.join(FORMS)};"
                raise ObservationError(f"{name} is no form of a request; {offer} {_USE}")
        return given
    if _is_records(given):
        return _by_name(given)
    raise ObservationError(
        f"the request is {type(given).__name__}, expected fields by name; {_USE}, {_RECORDS}, or a table with one row "
        "per observation"
    )


def _named(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch in the one form that a request of MLflow's protocol holds."""
    form = next(name for name in FORMS if name in given)
    beside = [name for name in given if name != form]
    if beside:
        raise ObservationError(f"{beside[0]} is sent beside {form}; send all fields within one of {', '.join(FORMS)}")
    content = given[form]
    if form == "dataframe_split":
        return _split(content)
    if isinstance(content, Mapping) and form != "dataframe_records":
        return content
    if not _is_records(content):
        wanted = _RECORDS if form == "dataframe_records" else f"fields by name, or {_RECORDS}"
        raise ObservationError(f"{form} holds {_kind(content)}, expected {wanted}; {_USE}")
    return _by_name(content)


def _split(table: Any) -> Mapping[str, Any]:
    """Columns from ``{"columns": [names], "data": [rows]}``, in which ``index`` has no meaning."""
    if not isinstance(table, Mapping) or not {"columns", "data"} <= set(table) <= {"columns", "data", "index"}:
        found = ", ".join(map(str, table)) or "nothing" if isinstance(table, Mapping) else _kind(table)
        raise ObservationError(f"dataframe_split holds {found}, expected columns and data; {_USE}")
    names, rows = table["columns"], table["data"]
    for name, part in (("columns", names), ("data", rows)):
        if not isinstance(part, list):
            raise ObservationError(f"{name} of dataframe_split holds {_kind(part)}, expected a list; {_USE}")
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} values" if isinstance(row, list) else _kind(row)
            raise ObservationError(
                f"row {place} of dataframe_split holds {found}, expected {len(names)}: one for each of its columns"
            )
    return _columns(names, [[row[place] for row in rows] for place in range(len(names))])


def _columns(names: Sequence[Any], columns: Sequence[list[Any]]) -> Mapping[str, Any]:
    twice = [str(name) for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ObservationError(f"the table names {twice[0]} twice; send each field once")
    for name, column in zip(names, columns, strict=True):
        if column and all(isinstance(value, str) for value in column):
            raise ObservationError(
                f"{name} holds text, and so do all fields of a table in CSV, which knows no lists; {_USE} as JSON, or "
                "a table as Parquet"
            )
    return {str(name): column for name, column in zip(names, columns, strict=True)}


def _by_name(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One list per field, with None where a record lacks it."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _is_records(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0 and all(isinstance(record, Mapping) for record in given)


def _kind(content: Any) -> str:
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "a list without fields" if content else "an empty list"
    return {"dict": "fields by name", "NoneType": "null", "str": "text"}.get(type(content).__name__, repr(content)[:40])
