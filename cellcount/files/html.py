"""HTML pages from the templates beside this module: one file each that loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellcount.files.atomic import atomic_write


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """A page as text; whatever stands in ``values`` is text to it, never markup.

    Args:
        template: file in the folder ``templates``.
        values: what it asks for; a missing one is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cellcount.outputs", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write a page.

    Raises:
        OutputError: the file cannot be written; an older one is untouched.
    """
    text = render_page(template, values)
    with atomic_write(path) as file:
        # A lone surrogate of a file name is no UTF-8: it is shown as \\udcff.
        file.write(text.encode("utf-8", "backslashreplace"))


def data_url(content: bytes, media_type: str) -> str:
    """Encode a picture as a ``data:`` address, so that the page loads nothing."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
