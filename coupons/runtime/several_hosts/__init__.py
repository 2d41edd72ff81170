"""A database backend of Django's for a DATABASE_URL with several hosts."""
