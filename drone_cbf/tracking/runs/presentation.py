"""What the MLflow UI shows before anybody has opened a run: the experiment's page and the names of runs."""

from __future__ import annotations

import re
from contextlib import suppress

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

from drone_cbf.tracking.runs.tracking_store import get_or_create_experiment
from drone_cbf.tracking.tags import NOTE_TAG, STAGE_TAG

EXPERIMENT = "drone_cbf"
"""Experiment of the runs for which no other was named."""
_DEFAULT_ID, _DEFAULT_NAME = "0", "Default"

_RANDOM_NAME = re.compile(r"^([a-z]+)-([a-z]+)-\d+$")

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
(`relax_rate`), or falls back to braking (`fallback_rate`) |
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
    """ID of the project's own experiment, which is created where it does not exist."""
    name_default_experiment(client, _DEFAULT_ID)
    return get_or_create_experiment(EXPERIMENT)


def name_default_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Gives MLflow's experiment ``Default`` the project's name, if it is the one meant and nobody else uses it.

    ``mlflow run`` without ``--experiment-name`` creates its run there before it starts any code of the project, and
    MLflow cannot move a run to another experiment.
    """
    if experiment_id != _DEFAULT_ID or client.get_experiment_by_name(_DEFAULT_NAME) is None:
        return
    if client.get_experiment_by_name(EXPERIMENT) is None and not _has_foreign_run(client):
        with suppress(MlflowException):  # another process was first, or the server does not permit it
            client.rename_experiment(_DEFAULT_ID, EXPERIMENT)


def _has_foreign_run(client: MlflowClient) -> bool:
    """Whether ``Default`` holds a run of another project; one that ``mlflow run`` prepared in vain is nobody's."""
    token: str | None = None
    while True:
        page = client.search_runs([_DEFAULT_ID], run_view_type=ViewType.ALL, page_token=token)
        for run in page:
            prepared = MLFLOW_PROJECT_ENTRY_POINT in run.data.tags and not run.data.metrics
            if STAGE_TAG not in run.data.tags and not prepared:
                return True
        token = page.token
        if not token:
            return False


def present_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Describes the experiment in the UI, once: what a person has written since is kept."""
    if NOTE_TAG not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, NOTE_TAG, EXPERIMENT_NOTE)


def name_run(client: MlflowClient, run_id: str, name: str, replaceable: str = "") -> None:
    """Gives the run a name that says something, unless a person named it.

    A name is a person's if it is neither one that MLflow drew at random nor ``replaceable``.
    """
    known = client.get_run(run_id).info.run_name
    if known != name and (known == replaceable or not known or is_random_name(known)):
        client.update_run(run_id, name=name)


def unpadded(markdown: str) -> str:
    """The text with its tables unaligned: MLflow limits the length of descriptions."""
    return re.sub(" {2,}", " ", re.sub("-{4,}", "---", markdown))


def is_random_name(name: str) -> bool:
    """Whether MLflow draws such names (``resilient-moth-482``) for runs that are given none."""
    found = _RANDOM_NAME.match(name)
    if found is None:
        return False
    first, second = found.groups()
    return first in map(str.lower, _GENERATOR_PREDICATES) and second in map(str.lower, _GENERATOR_NOUNS)
