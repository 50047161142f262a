"""Annotated images and labelled cells in every common format, in and out. No torch."""
