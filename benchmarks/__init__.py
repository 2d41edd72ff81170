"""Speed and memory, measured: `make bench`. benchmarks/README.md says what each figure means."""

BLOG_COUNT = "bench:blog"
"""The key of the blog's counter in Redis (reference.py)."""
