"""What the MLflow UI shows before anybody has opened a run: the experiment's page and the names of runs."""

from __future__ import annotations

import re

from mlflow.tracking import MlflowClient
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

from drone_cbf.tracking.tags import NOTE_TAG

_RANDOM_NAME = re.compile(r"^([a-z]+)-([a-z]+)-\d+$")

EXPERIMENT_NOTE = """\
### Drone policies, trained through differentiable physics and kept safe by a neural control barrier function

Each run is one stage. A later stage names its `drone_cbf.parent_run`; `pipeline` nests all four.

| stage | what it does | look at |
|---|---|---|
| `efficiency` | a policy that flies, without a safety layer | `train/success_rate`, `loss/total` |
| `pretrain_cbf` | the neural barrier learns the analytic one | `validation/*`, `final/margin` |
| `safety` | both, jointly, through the filter, under a curriculum | `filter/*`, `curriculum/*`, `train/*` |
| `evaluate` | the evidence, with the filter on and off | `eval/*` beside `eval_unfiltered/*`, `figures/` |

| group of charts | meaning |
|---|---|
| `loss` | terms of the loss, per update |
| `grad_norm` | norm of the gradient of policy and barrier and of each of their modules, before clipping |
| `grad_health` | entries of a gradient that are not finite, and the updates skipped because of them |
| `train` | success and collisions of the flights trained on |
| `filter` | how often the filter changes the command (`intervention_rate`), cannot keep the constraint \
(`relax_rate`), or falls back to braking (`fallback_rate`) |
| `curriculum` | noise, share of the neural barrier (`blend`) and stage |
| `robust` | of `safety`: the flights of `eval` again, each by a drone of its own (mass, drag, wind, lag) |
| `held_out` | of `safety`: losses of the barrier as it entered a stage (`before`) and as it left it (`after`), on the \
same held-out states |
| `monitor`, `adaptive` | of `safety`: how the monitor found a stage at its beginning, failures and roll-backs; \
the factors in force |
| `balance` | of `safety` with MGDA: the share of the efficiency terms |
| `validation`, `final` | on held-out states while training; once at the end; below, by stratum of sampled states |
| `initial` | the same of the barrier that `init_run` began with |
| `eval`, `eval_unfiltered` | of `evaluate`: the worst cell; below it, each cell: scene / noise / goals. Of `safety`: \
`eval` is the stage under way, under its own noise and blend |
| `replay` | of an evaluation's worst flights flown again (`evaluate -P replay=<run>`), beside what was recorded; \
of `safety`: the flights kept to learn from again |
| `comparison` | of `suite` and `compare`: means over the seeds of each curriculum |
| `reproduction` | of `reproduce`: how many metrics were compared, and how many disagree |
| `system` | processor, memory, network |

Each run's own description holds its result; `config.yaml` reproduces it. To compare: tick runs, then *Compare*. \
Evaluations without a collision: ``metrics.`eval/collision_rate` = 0`` in the search field.
"""


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


def is_random_name(name: str) -> bool:
    """Whether MLflow draws such names (``resilient-moth-482``) for runs that are given none."""
    found = _RANDOM_NAME.match(name)
    if found is None:
        return False
    first, second = found.groups()
    return first in map(str.lower, _GENERATOR_PREDICATES) and second in map(str.lower, _GENERATOR_NOUNS)
