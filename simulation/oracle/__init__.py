"""What must be true of a run: an independent reference that keeps plain lists and knows none of our rules' code."""
