"""Rules D: which relays are verified, when, and which one is the best."""

from salsa_agent.core.verification.checks import AT_ONCE, BUDGET, Checks, first_not_failed, last_resort

__all__ = ["AT_ONCE", "BUDGET", "Checks", "first_not_failed", "last_resort"]
