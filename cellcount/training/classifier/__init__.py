"""Training of cell-type classifiers."""
