"""Evaluation of models: boxes against boxes, types against types, and the counts that follow."""

from __future__ import annotations
