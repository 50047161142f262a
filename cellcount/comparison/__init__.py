"""Comparison of counting methods: agreement, bias and repeatability. No torch."""
