"""The differential: from counts of types to rows with limits, ratios, absolute counts and advice.

Pure functions of counts; see `cellcount.differential.compute.differential`.
"""
