"""What models cost: prices, budgets, and what was spent."""
