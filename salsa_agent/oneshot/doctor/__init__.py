"""`salsactl doctor`: what is wrong on the way from this host's addresses to the relay. A module for each group."""
