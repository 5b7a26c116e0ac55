"""Slow outside work: claim it in Postgres, do it, publish what happened."""
