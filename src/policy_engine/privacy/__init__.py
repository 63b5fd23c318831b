"""Privacy budgets: what rounds spend of them, by Renyi differential privacy. Pure."""
