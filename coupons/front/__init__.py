"""Answers applications in the event loop of a web worker; Django answers everything else."""
