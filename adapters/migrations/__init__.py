"""Schema migrations in dbmate's format."""
