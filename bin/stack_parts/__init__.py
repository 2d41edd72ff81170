"""What `bin/stack` does: run the three real servers from a folder of the checkout. Standard library only."""
