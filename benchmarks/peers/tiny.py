"""The agent with a netlink receive buffer of 4 KiB, which no option gives: `tiny.py` and salsa-agent's arguments."""

import sys

from salsa_agent.cli.agent import main
from salsa_agent.netlink.monitor import Netlink

OCTETS = 4096

defaults = Netlink.__init__.__kwdefaults__
if not defaults or "rcvbuf" not in defaults:
    sys.exit("tiny.py: the agent's netlink driver has no receive buffer to set any more")
defaults["rcvbuf"] = OCTETS
sys.exit(main())
