"""The journal of a run: results and reviews kept in SQLite, so that nothing is lost."""
