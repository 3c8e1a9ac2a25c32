"""Where dW comes from."""
