"""Measures speed and memory: `make bench`. benchmarks/README.md explains each figure."""

BLOG_COUNT = "bench:blog"
"""The Redis key of the counter of the blog's design (reference.py)."""
