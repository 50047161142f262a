"""Scripts for maintainers; nothing in the package imports them."""
