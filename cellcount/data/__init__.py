"""Labelled fields for training: real ones with augmentation, and rendered ones."""
