"""Model parts: backbone, pyramid, detector assembly, weight files and their cards.

Shapes: see each module.
"""
