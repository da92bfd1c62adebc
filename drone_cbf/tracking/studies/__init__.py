"""A search for good settings as runs of the store: its trials, and Optuna's study kept in them."""
