"""Which DNS servers are to be asked (rule F1), and which domains links have (F4).

Both are systemd-resolved's where it runs, else those of resolv.conf.
"""
