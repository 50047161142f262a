"""The journal of a run: results and corrections kept in SQLite, so that nothing is lost."""
