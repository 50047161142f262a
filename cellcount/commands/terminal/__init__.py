"""Text of the terminal: tables, progress and summaries."""
