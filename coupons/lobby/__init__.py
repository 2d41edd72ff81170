"""In front of Django: what needs no decision is answered at the server's own speed (decision 0020)."""
