"""Training: losses, stages and the loop that runs them."""
