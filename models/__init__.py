"""The pure core: events, operations, windows, charging, lifecycles. No I/O, no clock, no framework."""
