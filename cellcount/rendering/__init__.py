"""Rendered smear fields with exact truth, for tests, samples and training."""
