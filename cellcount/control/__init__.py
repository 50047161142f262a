"""Daily control: a slide of known cells counted every day, drift and its history."""
