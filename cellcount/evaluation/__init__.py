"""Evaluation of models: detected boxes, types and counts against the truth."""

from __future__ import annotations
