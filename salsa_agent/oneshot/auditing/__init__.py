"""`salsactl audit`: what is published for a prefix, asked as agents ask, and what is wrong with it."""
