"""Pure formulas, each with its way back."""
