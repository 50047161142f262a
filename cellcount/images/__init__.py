"""From what the user names to pixels: finding images, reading them, knowing their scale."""
