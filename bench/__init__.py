"""Benchmarks against peers: one run, alternating, one table. See README.md."""
