"""The figure of success and collisions by cruise speed."""

import numpy as np
import pytest

from drone_cbf.reporting.figures.speeds import rates_by_number, rates_by_speed

KEYS = ("scene", "noise", "goals", "speed", "filtered", "success_rate", "collision_rate", "rollouts", "mean_speed")
CELLS = [
    ("forest", 0.0, "random", 3.0, True, 1.0, 0.0, 100.0, 2.5),
    ("forest", 0.02, "random", 3.0, True, 0.9, 0.0, 300.0, 2.1),
    ("forest", 0.0, "random", 9.0, True, 0.8, 0.01, 100.0, 6.0),
    ("forest", 0.0, "random", 3.0, False, 0.7, 0.3, 50.0, 2.6),
    ("forest", 0.0, "random", 9.0, False, 0.2, 0.8, 50.0, 7.0),
]
ROWS = [dict(zip(KEYS, cell, strict=True)) for cell in CELLS]


def lines(axes):
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}


def test_cells_of_a_speed_are_pooled_by_their_flights_and_filter_on_and_off_have_a_line_each():
    above, below = rates_by_speed(ROWS).axes
    success, collisions = lines(above), lines(below)
    np.testing.assert_allclose(success["filter on"], [[3.0, (100 + 270) / 400], [9.0, 0.8]])
    np.testing.assert_allclose(success["filter off"], [[3.0, 0.7], [9.0, 0.2]])
    np.testing.assert_allclose(collisions["filter on"], [[3.0, 0.0], [9.0, 0.01]])
    assert [text.get_text() for text in above.texts] == ["2.2", "6.0"] and not below.texts


def test_the_interval_of_no_collision_in_400_flights_is_that_of_clopper_and_pearson():
    below = rates_by_speed(ROWS).axes[1]
    heights = [each.get_paths()[0].vertices for each in below.collections]
    expected = 1.0 - 0.025 ** (1.0 / 400.0)
    assert any(np.isclose(some[some[:, 0] == 3.0, 1].max(), expected, rtol=1e-6) for some in heights)


def test_every_scene_has_a_column_and_what_is_missing_is_named():
    both = [*ROWS, *({**row, "scene": "random_cloud"} for row in ROWS)]
    assert [axes.get_title(loc="left") for axes in rates_by_speed(both).axes][:2] == ["forest", "random cloud"]
    with pytest.raises(ValueError, match="lacks speed"):
        rates_by_speed([{key: value for key, value in ROWS[0].items() if key != "speed"}])
    with pytest.raises(ValueError, match="no rows"):
        rates_by_speed([])


def test_by_number_of_drones_the_axis_is_logarithmic_and_names_each_number():
    rows = [{**row, "drones": {3.0: 8, 9.0: 128}[row["speed"]]} for row in ROWS]
    above, below = rates_by_number(rows).axes
    np.testing.assert_allclose(lines(above)["filter on"], [[8.0, (100 + 270) / 400], [128.0, 0.8]])
    assert below.get_xscale() == "log" and [label.get_text() for label in below.get_xticklabels()] == ["8", "128"]
    with pytest.raises(ValueError, match="lacks drones"):
        rates_by_number(ROWS)
