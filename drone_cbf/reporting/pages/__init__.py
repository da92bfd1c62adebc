"""Whole pages: the report, the interactive 3-D viewer and the results page, from templates installed beside them."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

from drone_cbf.reporting.tables import markdown_table


def render(name: str, **values: object) -> str:
    """The page ``templates/<name>``. In HTML every value is escaped unless the template says otherwise."""
    environment = Environment(
        loader=FunctionLoader(lambda file: (files(__package__) / "templates" / file).read_text("utf-8")),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["table"] = markdown_table
    environment.filters["png"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(name).render(**values)
