"""Named queries, one .sql file per room that uses them."""
