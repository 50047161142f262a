"""Profiles: what a laboratory counts on a kind of smear, and by which rules, as data files."""
