"""Annotated images: boxes, legend and text drawn on the field."""
