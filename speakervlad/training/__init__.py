"""The trainer and everything that only training needs."""
