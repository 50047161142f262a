"""Contract checks for plugins and weight files, with a sentence for each breach.

In a plugin's own tests: ``assert check_backbone("tinynet") == []``.
"""

from cellcount.testing.backbone_contract import check_backbone
from cellcount.testing.classifier_contract import check_classifier
from cellcount.testing.weight_file import check_weights

__all__ = ["check_backbone", "check_classifier", "check_weights"]
