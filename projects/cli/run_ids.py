"""Run IDs as people paste them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_PAGE = re.compile(r"/runs/([0-9a-f]{32})\b")


def as_run_id(text: Any) -> Any:
    """``text`` without blanks around it; of the address of a run's page the run ID."""
    if not isinstance(text, str):
        return text
    page = _PAGE.search(text)
    return page[1] if page else text.strip()


RunId = Annotated[str, BeforeValidator(as_run_id), Field(min_length=1, max_length=250)]
OptionalRunId = Annotated[str, BeforeValidator(as_run_id), Field(max_length=250)]
"""Empty where no run is named."""
