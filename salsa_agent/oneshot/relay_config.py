"""The relay that an operator publishes, as its mail server wants it told: who may relay, how much, and why. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

from salsa_agent.oneshot.zone import IPNetwork, is_within

PROGRAMS = ("postfix", "exim", "opensmtpd")

_WIDEST = {4: 8, 6: 19}  # what RFC 1918 or a registry gives at most; a wider one is a slip, and an open relay

_WHY = """\
#
# Who may relay: hosts of these networks, by their address, with no password. A
# guest has none, and the MX record in the reverse tree says that none is
# needed. Nobody else may: an open relay is found within hours, and its address
# is on every blocklist from then on. At your border, drop what comes from
# outside with a source address of your own (BCP 38).
#
# The limits are for each client address. A host sends little; one that has been
# broken into sends all it can, and the mail of all others suffers for it. Raise
# them where many hosts share an address (NAT). Connections may be more than
# messages: agents connect, say EHLO and leave, to see whether this relay
# answers, once in 5 seconds at most after the first ten.
"""

_POSTFIX = (
    """\
# For Postfix, main.cf; these take the place of settings of the same names.
"""
    + _WHY
    + """
mynetworks = {bracketed}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination

# By default Postfix spares all of mynetworks the limits: the hosts that are
# meant here.
smtpd_client_event_limit_exceptions = 127.0.0.0/8, [::1]/128
anvil_rate_time_unit = 60s
smtpd_client_message_rate_limit = 30
smtpd_client_recipient_rate_limit = 100
smtpd_client_connection_rate_limit = 60
smtpd_client_connection_count_limit = 10
# A host has as many IPv6 addresses as it likes in its /64. From Postfix 3.8 on
# they can be counted as one:
# smtpd_client_ipv6_prefix_length = 64

message_size_limit = 25000000
# STARTTLS, with smtpd_tls_chain_files, for hosts that ask for it. Not required:
# hosts without it could not send at all.
smtpd_tls_security_level = may
"""
)

_EXIM = (
    """\
# For Exim: to "begin acl" for the main section, the rest for that of the ACLs.
"""
    + _WHY
    + """
hostlist salsa_inside = <; {semicolons}
acl_smtp_connect = acl_salsa_connect
acl_smtp_rcpt = acl_salsa_rcpt
smtp_accept_max = 100
smtp_accept_max_per_host = 10
message_size_limit = 25000000
# STARTTLS, with tls_certificate, for hosts that ask for it. Not required: hosts
# without it could not send at all.

begin acl

acl_salsa_connect:
  accept  hosts = <; 127.0.0.1 ; ::1
  defer   message = too many connections, try again in a minute
          ratelimit = 60 / 1m / leaky / per_conn / $sender_host_address
  accept

acl_salsa_rcpt:
  accept  hosts = : 127.0.0.1
  # Mail from outside for your own domains, if any: accept it here, by domain.
  deny    message = relaying denied
          !hosts = +salsa_inside
  defer   message = too many recipients, try again in a minute
          ratelimit = 100 / 1m / leaky / per_rcpt / $sender_host_address
  accept
"""
)

_OPENSMTPD = (
    """\
# For OpenSMTPD, smtpd.conf, from release 6.4 on.
"""
    + _WHY
    + """#
# OpenSMTPD counts within one session only, not by address: limit new
# connections to port 25 in the firewall, at 60 a minute and address.

table salsa_inside {{ {commas} }}

# On the addresses at which hosts reach this relay; "tls pki NAME" behind one
# offers STARTTLS.
listen on 0.0.0.0
listen on ::

smtp limit max-mails 30
smtp limit max-rcpt 100
smtp max-message-size 25000000

action "salsa_relay" relay

# What matches no rule is refused.
match from local for any action "salsa_relay"
match from src <salsa_inside> for any action "salsa_relay"
"""
)

_TEMPLATES = {"postfix": _POSTFIX, "exim": _EXIM, "opensmtpd": _OPENSMTPD}


def relay_config(program: str, prefixes: Sequence[IPNetwork]) -> str:
    """The configuration for this program (see PROGRAMS) of a relay for these prefixes; no newline at its end.

    Raises ValueError, one clear sentence, for a prefix that would make it an open relay.
    """
    for prefix in prefixes:
        if prefix.prefixlen < (widest := _WIDEST[prefix.version]):
            raise ValueError(f"{prefix} is wider than /{widest}: that would be an open relay")
    wanted = [one for one in dict.fromkeys(prefixes) if not any(one != it and is_within(one, it) for it in prefixes)]
    return (
        _TEMPLATES[program]
        .format(
            bracketed=",\n  ".join(["127.0.0.0/8", "[::1]/128", *map(_bracketed, wanted)]),
            semicolons=" ; \\\n  ".join(["127.0.0.1", "::1", *map(str, wanted)]),
            commas=", ".join(map(str, wanted)),
        )
        .rstrip("\n")
    )


def _bracketed(prefix: IPNetwork) -> str:
    """As Postfix writes it."""
    if isinstance(prefix, IPv6Network):
        return f"[{prefix.network_address}]/{prefix.prefixlen}"
    return str(prefix)
