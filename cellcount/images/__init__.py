"""Images: finding those that the user names, reading them, and their scale."""
