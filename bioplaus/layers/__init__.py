"""What a network is made of: shapes, parameters, and the explicit way back."""
