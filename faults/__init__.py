"""Fault injection, and the proof that nothing was lost."""
