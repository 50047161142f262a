"""From options by name, as the command line and Python give them, to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from cellcount.outputs.forms import BUILT_IN
from cellcount.settings import (
    AnalyzeRequest,
    AnalyzeSettings,
    DifferentialSettings,
    OutputSettings,
    RunSettings,
)


def analyze_request(inputs: Iterable[str], options: Mapping[str, Any]) -> AnalyzeRequest:
    """Make the request of an analyze; options that are not given have their defaults.

    Args:
        inputs: files, folders, patterns or manifests.
        options: by name; ``out`` is needed.

    Raises:
        UsageError: one has a value that cannot be meant.
    """
    return AnalyzeRequest(
        inputs=tuple(inputs),
        analyze=AnalyzeSettings(**_named(AnalyzeSettings, options)),
        output=output_settings(options),
        run=RunSettings(**_named(RunSettings, options)),
        differential=DifferentialSettings(**_named(DifferentialSettings, options)),
        slide_from=options.get("slide_from"),
    )


def output_settings(options: Mapping[str, Any]) -> OutputSettings:
    """Make the settings of outputs; a form that is None is not wanted."""
    forms = {name: options[name] for name in BUILT_IN if options.get(name) is not None}
    forms |= options.get("plugin_forms", {})
    return OutputSettings(forms=forms, **_named(OutputSettings, options))


def _named(settings: type, options: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: options[f.name] for f in fields(settings) if f.name in options}
