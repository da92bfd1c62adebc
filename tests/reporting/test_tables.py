import numpy as np

from drone_cbf.reporting.tables import markdown_table, percent, terminal_table


def parse(text):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return rows[0], rows[1], rows[2:]


def test_a_table_parses_back_to_its_values():
    rows = [
        {"name": "1e3", "rate": 0.123456, "count": 7},
        {"name": "b", "rate": np.float32(2.0), "count": np.int64(12)},
    ]
    heads, rule, body = parse(markdown_table(rows))
    assert heads == ["name", "rate", "count"]
    assert body[0][0] == "1e3" and [int(row[2]) for row in body] == [7, 12]
    assert [float(row[1]) for row in body] == [0.1235, 2.0]
    assert rule[0].startswith(":") and rule[1].endswith(":") and rule[2].endswith(":")


def test_gaps_are_dashes_and_a_bar_does_not_split_a_cell():
    text = markdown_table([{"a": None, "b": float("nan"), "c": "x|y", "d": True}, {"a": 1.5}])
    assert parse(text.replace("\\|", "/"))[2] == [["–", "–", "x/y", "yes"], ["1.5", "–", "–", "–"]]


def test_a_table_without_rows_says_so_and_a_terminal_gets_the_same_cells_under_a_rule():
    assert (markdown_table([]), terminal_table([])) == ("None.", "")
    head, rule, first = terminal_table([{"name": "a|b", "value": 0.123456}]).splitlines()
    assert (head.split(), set(rule), first.split()) == (["name", "value"], {"-", " "}, ["a|b", "0.1235"])


def test_a_rate_is_never_rounded_to_a_bound_it_misses():
    assert [percent(rate) for rate in (0.0, 1e-6, 0.5, 0.999999, 1.0)] == [
        "0 %",
        "0.01 %",
        "50.00 %",
        "99.99 %",
        "100 %",
    ]
