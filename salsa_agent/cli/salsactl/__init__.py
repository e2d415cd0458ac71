"""`salsactl`, one module for each of its commands."""
