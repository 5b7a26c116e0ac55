"""An emulator of Replicate's HTTP API for demos, tests and benches: real HTTP, seeded latency, faults on demand."""
