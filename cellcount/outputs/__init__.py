"""Everything a run writes: tables, pictures, exports and the run record. No torch in here."""
