"""Runners: where the pipeline runs."""
