"""Training: one plain loop, checkpoints that resume exactly, exports with a card."""
