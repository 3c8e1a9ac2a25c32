"""From accumulated dW to a step on W."""
