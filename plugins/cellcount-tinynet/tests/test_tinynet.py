"""The plugin keeps cellcount's contract. Run it with the plugin installed."""

from __future__ import annotations

import pytest
from cellcount_tinynet import build

from cellcount.testing import check_backbone


def test_it_keeps_the_contract() -> None:
    assert check_backbone("tinynet") == []
    assert check_backbone("tinynet", width=8) == []


def test_other_strides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strides \(8, 16, 32\)"):
        build(strides=(4, 8))
