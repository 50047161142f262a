"""Composed fields of bone marrow: single cells cut out, and pasted among red cells on glass."""
