"""The review page: a local server over a finished run, on which people correct its counts."""
