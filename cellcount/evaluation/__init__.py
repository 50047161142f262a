"""How good a model is: boxes against boxes, and the counts that follow from them."""

from __future__ import annotations
