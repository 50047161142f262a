"""Review: cells exported for a person, and their corrections applied."""
