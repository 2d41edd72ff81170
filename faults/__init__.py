"""Fault injection, and checks that prove that no promise was lost."""
