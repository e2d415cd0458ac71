"""Ring 1: the rules, on the pure core. No privilege, no network, no library but pytest and Hypothesis."""
