"""A seeded schedule of faults, several at once, until something is unexplained. `make soak`."""
