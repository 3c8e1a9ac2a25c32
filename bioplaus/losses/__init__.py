"""What is scored, and the error it starts."""
