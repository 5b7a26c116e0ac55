"""The whole path on in-memory servers and a virtual clock, deterministic by seed, against an independent reference."""
