"""`make soak`: injects concurrent faults by a seeded schedule until a check finds something unexplained."""
