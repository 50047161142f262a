"""Adaptation of packaged models to one laboratory, by the cells and fields that it corrected."""
