"""The lessons, and the command line that runs them."""
