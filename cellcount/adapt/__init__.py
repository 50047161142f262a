"""Packaged models made to fit one laboratory by the cells and fields that it corrected."""
