"""MLflow's scoring server (``mlflow models serve``, ``mlflow models predict``), as far as served policies need it.

For a model that checks its requests itself the server reads ``inputs`` alone and refuses the other forms of MLflow's
protocol. For any other model it reads them all, but drops fields that the signature does not name, and fails on ragged
ones in words of its own, before the model sees them. So for served policies it is replaced at this one place: they get
the request as it was sent. MLflow offers no setting or hook for it; a version carries its MLflow pinned.
"""

from __future__ import annotations

import functools
from typing import Any

from mlflow.pyfunc import scoring_server

MARK = {"drone_cbf.requests": "as sent"}
"""Entry of a model's metadata by which the server knows that the model reads every form itself."""
_READER = "_parse_json_data"


def hand_over_requests_as_sent() -> None:
    """From now on, the scoring server of this process hands JSON to models marked with :data:`MARK` as it was sent.

    Nothing changes for other models. A second call does nothing, from whatever version's code.
    """
    reader: Any = getattr(scoring_server, _READER, None)
    if reader is None or getattr(reader, "hands_over", False):
        return  # another MLflow, which reads `inputs` at least

    @functools.wraps(reader)
    def read(data: Any, metadata: Any, input_schema: Any) -> Any:
        if MARK.items() <= (getattr(metadata, "metadata", None) or {}).items():
            given = scoring_server._decode_json_input(data)
            return scoring_server.ParsedJsonInput(data=given, params=None, is_unified_llm_input=False)
        return reader(data, metadata, input_schema)

    read.hands_over = True  # type: ignore[attr-defined]
    setattr(scoring_server, _READER, read)
