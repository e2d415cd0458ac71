"""`python -m salsa_agent`: the command `salsa-agent`."""

import sys

from salsa_agent.cli.agent import main

if __name__ == "__main__":
    sys.exit(main())
