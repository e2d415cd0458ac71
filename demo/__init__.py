"""The post's story, told by the real agent in networks of its own: `./run demo`.

A package beside the program, for it is none of it: it plays the world that the agent lives in, and nothing installs it.
It needs what the agent needs, dbus-daemon, iproute2 and util-linux, and no privileges.
"""
