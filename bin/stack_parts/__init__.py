"""The code of `bin/stack`: runs the three real servers from a folder of the checkout. Standard library only."""
