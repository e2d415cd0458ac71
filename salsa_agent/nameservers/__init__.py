"""Which DNS servers are to be asked (rule F1): systemd-resolved's, else those of resolv.conf."""
