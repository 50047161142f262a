"""Explanation of detections: attention maps and their pictures."""
