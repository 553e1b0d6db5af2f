"""What runs inside pods: one image a file."""
