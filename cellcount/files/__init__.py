"""Files written whole or not at all, locks, people's tables, HTML and text. Knows no cell."""
