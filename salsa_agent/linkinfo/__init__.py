"""What else a link says (rule F4): its search and routing domains, and its NetworkManager connection."""
