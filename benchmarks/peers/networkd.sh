#!/bin/sh
# networkd.sh BUS DIRECTORY LINK: systemd-networkd, which sees to LINK, and networkd-dispatcher with a script for
# "routable".
#
# To be run in a mount and a UTS namespace of its own. `DIRECTORY/calls` gets a line for each call of the script.
set -e
bus=$1 directory=$2 link=$3 peers=${0%/*}
# shellcheck source=benchmarks/peers/apart.sh
. "$peers/apart.sh"
apart "$directory"
hide /etc/systemd/network /usr/lib/systemd/network
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
cat >/run/systemd/network/measured.network <<END
[Match]
Name=$link
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
END
scripts=/run/scripts
mkdir -p $scripts/routable.d
cat >$scripts/routable.d/50-relay <<END
#!/bin/sh
[ "\$IFACE" = "$link" ] || exit 0
. "$peers/relay.sh"
dispatched "$bus" "$link" "$directory/calls"
END
chmod 755 $scripts/routable.d $scripts/routable.d/50-relay
export DBUS_SYSTEM_BUS_ADDRESS="$bus" SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=warning
/lib/systemd/systemd-networkd &
exec networkd-dispatcher --verbose --script-dir=$scripts
