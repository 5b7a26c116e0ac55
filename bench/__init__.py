"""Workloads, oracles and the systems measured beside Darkroom."""
