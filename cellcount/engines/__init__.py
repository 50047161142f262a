"""Engines: one architecture, one weight file, several implementations of the detector.

``cellcount.engines.base`` holds the contract and the door; an engine is imported when asked for.

Shapes: see each module.
"""
