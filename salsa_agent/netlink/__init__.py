"""What the kernel says of the host's links, addresses and routes (rtnetlink). Only this package imports pyroute2.

`monitor` follows the kernel and emits a snapshot after each change; `schedule` says when one is due; `state` is what
events and dumps have told so far; `queries` asks the kernel; `messages` reads its messages; `kernel_socket` is
pyroute2's socket with the guards that it lacks. Why pyroute2, and at what cost: docs/decisions/pyroute2-for-netlink.md.
"""

import logging

# Where /proc has no file of traffic control (ProcSubset=pid) pyroute2 warns of that when it is imported.
logging.getLogger("pyroute2.netlink.rtnl.tcmsg").setLevel(logging.ERROR)
