import numpy as np
import pytest

from drone_cbf.reporting.tables import markdown_table, percent


def parse(text):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return rows[0], rows[1], rows[2:]


def test_a_table_parses_back_to_its_values():
    rows = [
        {"name": "1e3", "rate": 0.123456, "count": 7},
        {"name": "b", "rate": np.float32(2.0), "count": np.int64(12)},
    ]
    heads, rule, body = parse(markdown_table(rows, floatfmt=".5f"))
    assert heads == ["name", "rate", "count"]
    assert body[0][0] == "1e3" and [int(row[2]) for row in body] == [7, 12]
    assert [float(row[1]) for row in body] == [0.12346, 2.0]
    assert rule[0].startswith(":") and rule[1].endswith(":") and rule[2].endswith(":")


def test_columns_can_be_chosen_ordered_and_formatted_one_by_one():
    heads, _, body = parse(markdown_table([{"a": 0.5, "b": 0.25, "c": 1}], ["b", "a"], {"b": ".1%"}))
    assert heads == ["b", "a"] and body == [["25.0%", "0.5"]]


def test_gaps_are_dashes_and_a_bar_does_not_split_a_cell():
    text = markdown_table([{"a": None, "b": float("nan"), "c": "x|y", "d": True}, {"a": 1.5}])
    assert parse(text.replace("\\|", "/"))[2] == [["–", "–", "x/y", "yes"], ["1.5", "–", "–", "–"]]


def test_an_empty_table_needs_columns_and_an_unknown_column_is_refused():
    assert parse(markdown_table([], ["a", "b"]))[2] == []
    with pytest.raises(ValueError, match="pass columns"):
        markdown_table([])
    with pytest.raises(ValueError, match="no row holds typo"):
        markdown_table([{"a": 1}], ["a", "typo"])


def test_a_rate_is_never_rounded_to_a_bound_it_misses():
    assert [percent(rate) for rate in (0.0, 1e-6, 0.5, 0.999999, 1.0)] == [
        "0 %",
        "0.01 %",
        "50.00 %",
        "99.99 %",
        "100 %",
    ]
