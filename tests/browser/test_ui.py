"""What a person sees of a pipeline in the MLflow UI.

The pictures of the README: make screenshots
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.browser.conftest import SIZE, Ui
from tests.projects.small_pipeline import STAGES

if TYPE_CHECKING:
    from mlflow.entities import Run
    from playwright.sync_api import Locator, Page

SECTIONS = {
    "efficiency": ("grad_norm", "loss", "train"),
    "safety": ("curriculum", "filter", "grad_norm", "loss", "train"),
}
CHARTS_DRAWN = "() => { const n = document.querySelectorAll('.js-plotly-plot').length; return n > 1 && n }"
Picture = Callable[[str], None]


def visit(page: Page, address: str) -> None:
    """Opens a page, without the assistant beside it."""
    page.goto(address)
    assistant = page.locator("button[aria-label='Close']")
    page.get_by_text("Model training").wait_for()
    if assistant.count():
        assistant.first.click()


def test_the_experiment_is_described_and_the_stages_lie_under_their_pipeline(
    ui: Ui, page: Page, picture: Picture
) -> None:
    experiment = ui.runs["pipeline"].info.experiment_id
    visit(page, f"{ui.address}/#/experiments/{experiment}/runs?workflowType=machine_learning")
    page.get_by_text("kept safe by a neural control barrier function").wait_for()
    pipeline = linked(page, ui.runs["pipeline"])
    pipeline.wait_for()
    assert linked(page, ui.runs["safety"]).count() == 0, "folded"
    page.get_by_role("row").filter(has=pipeline).get_by_role("button").first.click()
    for stage in STAGES:
        linked(page, ui.runs[stage]).wait_for()
    picture("runs")


def linked(page: Page, run: Run) -> Locator:
    """The name of a run in the table, by its address: a store may hold other runs of that name."""
    return page.locator(f'a[href*="/runs/{run.info.run_id}"]', has_text=run.info.run_name)


@pytest.mark.slow
def test_the_pipelines_description_shows_the_lineage_and_leads_to_each_stage(
    ui: Ui, page: Page, picture: Picture
) -> None:
    visit(page, ui.page_of("pipeline"))
    page.get_by_label("Expand description").click()
    for stage in STAGES:
        page.get_by_role("link", name=ui.runs[stage].info.run_id).wait_for()
    heading = page.get_by_role("heading", name="Lineage")
    heading.scroll_into_view_if_needed()
    picture("lineage")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=ui.runs["safety"].info.run_id).click()
    opened.value.get_by_role("heading", name=ui.runs["safety"].info.run_name).wait_for()
    assert ui.runs["safety"].info.run_id in opened.value.url
    opened.value.close()


def test_an_evaluation_says_first_whether_it_meets_the_targets_and_lists_the_worst_cells_first(
    ui: Ui, page: Page, picture: Picture
) -> None:
    visit(page, ui.page_of("evaluate"))
    page.get_by_text(re.compile(r"(Meets all|Misses \d of) 5 targets")).wait_for()
    first = page.get_by_role("link", name=re.compile("^eval")).first
    first.wait_for()
    assert first.inner_text().count("/") == 1, "no single cell"
    details = page.get_by_text("About this run").bounding_box()
    assert details is not None and details["x"] + 200 < SIZE["width"], "no wide table pushes it out of the page"
    picture("evaluation")


@pytest.mark.slow
def test_the_evaluated_policy_is_a_model_with_its_worst_cells(ui: Ui, page: Page, picture: Picture) -> None:
    run = ui.runs["evaluate"]
    model = run.outputs.model_outputs[0].model_id
    visit(page, f"{ui.address}/#/experiments/{run.info.experiment_id}/models?workflowType=machine_learning")
    page.locator(f'a[href*="/models/{model}"]').first.wait_for()
    visit(page, f"{ui.address}/#/experiments/{run.info.experiment_id}/models/{model}?workflowType=machine_learning")
    for text in ("eval/success_rate", "training_seed", run.info.run_name):
        page.get_by_text(text, exact=True).first.wait_for()
    verdict = page.get_by_text(re.compile("5 targets"))
    verdict.wait_for()
    assert re.match(r"(Meets all|Misses \d of) 5 targets", verdict.inner_text())
    picture("model")


@pytest.mark.slow
@pytest.mark.parametrize("stage", SECTIONS)
def test_the_charts_of_a_training_stage_are_grouped_and_drawn(ui: Ui, page: Page, picture: Picture, stage: str) -> None:
    visit(page, ui.page_of(stage, "/model-metrics"))
    for section in SECTIONS[stage]:
        page.get_by_text(section, exact=True).first.wait_for()
    page.locator(".js-plotly-plot .xtick").first.wait_for(state="attached")
    loss = page.get_by_text("loss", exact=True).first
    loss.scroll_into_view_if_needed()
    picture(f"charts_{stage}")
    drawn = page.wait_for_function(CHARTS_DRAWN).json_value()  # those scrolled to are drawn anew
    assert drawn > 1


def test_an_evaluations_pictures_and_its_viewer_open_beside_the_list_of_artifacts(
    ui: Ui, page: Page, picture: Picture
) -> None:
    visit(page, ui.page_of("evaluate", "/artifacts/figures/random_cloud_from_above.png"))
    image = page.locator("img[src*='random_cloud_from_above'], .image-outer-container img, img[src^='blob:']").first
    image.wait_for()
    page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    picture("artifacts")
    figures = [f"random_cloud_{view}.png" for view in ("from_above", "in_space")]
    assert all(page.get_by_text(figure).count() for figure in figures)
    page.get_by_text("viewer.html").click()
    page.frame_locator("iframe").first.locator("canvas, svg").first.wait_for(state="attached")
    picture("viewer")


@pytest.mark.slow
def test_a_stage_names_the_scenes_that_it_used(ui: Ui, page: Page) -> None:
    visit(page, ui.page_of("evaluate"))
    (used,) = ui.runs["evaluate"].inputs.dataset_inputs
    page.get_by_text(used.dataset.name).first.wait_for()
    page.get_by_text(used.dataset.digest).first.wait_for()
    assert page.get_by_text(used.dataset.digest).first.is_visible()


@pytest.mark.slow
def test_two_runs_are_compared_side_by_side(ui: Ui, page: Page, picture: Picture) -> None:
    chosen = [ui.runs[stage].info for stage in ("efficiency", "safety")]
    ids, experiments = json.dumps([run.run_id for run in chosen]), json.dumps([chosen[0].experiment_id])
    visit(
        page,
        f"{ui.address}/#/compare-runs?runs={quote(ids)}&experiments={quote(experiments)}&workflowType=machine_learning",
    )
    page.get_by_role("heading", name="Comparing 2 Runs").wait_for()
    for run in chosen:
        page.get_by_text(run.run_name, exact=True).first.wait_for()
    page.locator(".js-plotly-plot .parcoords").first.wait_for(state="attached")
    picture("compare")
    assert page.locator(".js-plotly-plot .parcoords").count() == 1
