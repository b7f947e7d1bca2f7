"""What runs the weights of a policy."""
