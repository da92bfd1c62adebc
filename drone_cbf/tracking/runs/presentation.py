"""What the MLflow UI shows before anybody has opened a run: the experiment's page and the names of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress

import mlflow
from mlflow.entities import RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_RUN_NAME
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

from drone_cbf.tracking.tags import NOTE_TAG, STAGE_TAG

EXPERIMENT = "drone_cbf"  # Experiment of the runs for which no other was named
_DEFAULT_ID, _DEFAULT_NAME = "0", "Default"

EXPERIMENT_NOTE = """\
### Drone policies, trained through differentiable physics and kept safe by a neural control barrier function

Each run is one stage and names the run that it builds on in `drone_cbf.parent_run`; `pipeline` nests all four stages.

| stage | what it does | look at |
|---|---|---|
| `efficiency` | trains a policy without a safety filter | `train/success_rate`, `loss/total` |
| `pretrain_cbf` | fits the neural barrier to the analytic one | `validation/*`, `final/margin` |
| `safety` | trains both jointly, through the filter, under a curriculum | `filter/*`, `curriculum/*`, `train/*` |
| `evaluate` | measures with the filter on and off | `eval/*` beside `eval_unfiltered/*`, `figures/` |

| group of charts | meaning |
|---|---|
| `loss` | terms of the loss, per update |
| `grad_norm` | gradient norm of policy, barrier and each of their modules, before clipping |
| `grad_health` | gradient entries that are not finite, and updates skipped because of them |
| `train` | success and collisions of the training flights |
| `filter` | how often the filter changes the command (`intervention_rate`), cannot keep the constraint \
(`relax_rate`), falls back to braking (`fallback_rate`), or brakes because something is on the way \
(`unavoidable_rate`) |
| `curriculum` | noise, share of the neural barrier (`blend`) and stage |
| `robust` | of `safety`: as `eval`, but each flight with a random mass, drag, wind and lag |
| `held_out` | of `safety`: barrier losses on fixed held-out states, `before` and `after` a stage |
| `monitor`, `adaptive` | of `safety`: measurements on entering a stage, failures and roll-backs; after the first \
roll-back, the factors on blend, penalties and learning rates |
| `balance` | of `safety` with MGDA: the share of the efficiency terms |
| `validation`, `final` | on held-out states: during training, and at the end; below, by stratum of sampled states |
| `initial` | the same for the barrier of `init_run` |
| `eval`, `eval_unfiltered` | of `evaluate`: the worst cell; below, single cells as scene / noise / goals (all of \
their figures: `tables/cells.json`). Of `safety`: `eval` is the current stage under its own noise and blend |
| `replay` | of `evaluate -P replay=<run>`: the worst flights flown again, beside the recorded figures; of `safety`: \
the states kept for further training |
| `comparison` | of `suite` and `compare`: means over the seeds of each curriculum |
| `reproduction` | of `reproduce`: how many figures were compared, and how many disagree |
| `system` | processor and memory, where `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true` |

Each run's description holds its result; its `config.yaml` reproduces it. To compare, tick runs and press *Compare*. \
*Group by* `curriculum` or `training_seed` collects evaluations. *Models* lists the evaluated policies with their \
worst cells. Evaluations without a collision: ``metrics.`eval/collision_rate` = 0`` in the search field.
"""


def own_experiment(client: MlflowClient) -> str:
    """ID of the project's own experiment, created where it does not exist; several processes may do so at once."""
    name_default_experiment(client, _DEFAULT_ID)
    found = client.get_experiment_by_name(EXPERIMENT)
    try:
        return str(found.experiment_id) if found else str(client.create_experiment(EXPERIMENT))
    except MlflowException:
        if found := client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        raise


def name_default_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Gives MLflow's experiment ``Default`` the project's name, if it is the one meant and nobody else uses it.

    ``mlflow run`` without ``--experiment-name`` creates its run there before it starts any code of the project, and
    MLflow cannot move a run to another experiment.
    """
    if experiment_id != _DEFAULT_ID or client.get_experiment_by_name(_DEFAULT_NAME) is None:
        return
    if client.get_experiment_by_name(EXPERIMENT) is None and not _has_foreign_run():
        with suppress(MlflowException):  # another process was first, or the server does not permit it
            client.rename_experiment(_DEFAULT_ID, EXPERIMENT)


def _has_foreign_run() -> bool:
    """Whether ``Default`` holds a run of another project; one that ``mlflow run`` prepared in vain is nobody's."""
    runs = mlflow.search_runs([_DEFAULT_ID], run_view_type=ViewType.ALL, output_format="list")
    foreign = (run for run in runs if STAGE_TAG not in run.data.tags)
    return any(MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags or run.data.metrics for run in foreign)


def present_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Describes the experiment in the UI, unless it has a description: a person may have written it."""
    if NOTE_TAG not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, NOTE_TAG, EXPERIMENT_NOTE)


def name_run(client: MlflowClient, run_id: str, name: str, replaceable: str = "") -> None:
    """Names the run, unless a person did: its name is neither ``replaceable`` nor one that MLflow drew at random."""
    known = client.get_run(run_id).info.run_name
    if known != name and (known == replaceable or not known or is_random_name(known)):
        client.update_run(run_id, name=name)


def unpadded(markdown: str) -> str:
    """The text with its tables unaligned: MLflow limits the length of descriptions."""
    return re.sub(" {2,}", " ", re.sub("-{4,}", "---", markdown))


def is_random_name(name: str) -> bool:
    """Whether MLflow draws such names (``resilient-moth-482``) for runs that are given none."""
    first, _, rest = name.partition("-")
    second, _, number = rest.partition("-")
    known = first in map(str.lower, _GENERATOR_PREDICATES) and second in map(str.lower, _GENERATOR_NOUNS)
    return known and number.isdecimal()


def mark_dry_run(entry: str, text: str) -> None:
    """Names the run that ``mlflow run`` has created for this process ``<entry>-dry-run``, and describes it by ``text``.

    It stays: ``mlflow run`` sets its status in the end, and fails where it is deleted.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    tags = MlflowClient().get_run(run_id).data.tags if run_id else {}
    if run_id and MLFLOW_PROJECT_ENTRY_POINT in tags and STAGE_TAG not in tags:
        name, note = f"{entry}-dry-run", f"```\n{text}\n```"
        set_tags(run_id, {MLFLOW_RUN_NAME: name, "drone_cbf.dry_run": "true", NOTE_TAG: note})


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Sets all ``tags`` of the run in one call."""
    MlflowClient().log_batch(run_id, tags=[RunTag(key, text) for key, text in tags.items()])
