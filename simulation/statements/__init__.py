"""What each named query of adapters/sql does, in Python, on the in-memory tables."""
