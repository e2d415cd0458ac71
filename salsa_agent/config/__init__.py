"""The configuration file, its values and its errors."""
