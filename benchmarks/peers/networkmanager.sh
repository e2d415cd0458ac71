#!/bin/sh
# networkmanager.sh BUS DIRECTORY LINK: NetworkManager, which sees to LINK, and its dispatcher with a script for "up".
#
# To be run in a mount and a UTS namespace of its own. `DIRECTORY/calls` gets a line for each call of the script.
set -e
bus=$1 directory=$2 link=$3 peers=${0%/*}
# shellcheck source=benchmarks/peers/apart.sh
. "$peers/apart.sh"
apart "$directory"
hide /etc/NetworkManager /var/lib/NetworkManager /usr/lib/NetworkManager/conf.d /usr/lib/NetworkManager/dispatcher.d
cat >/etc/NetworkManager/NetworkManager.conf <<END
[main]
plugins=keyfile
dns=none
rc-manager=unmanaged
no-auto-default=*
hostname-mode=none
auth-polkit=false
[logging]
backend=stderr
level=WARN
[connectivity]
enabled=false
[device-measured]
match-device=interface-name:$link
managed=1
[device-others]
match-device=*
managed=0
END
mkdir /etc/NetworkManager/dispatcher.d
script=/etc/NetworkManager/dispatcher.d/50-relay
cat >$script <<END
#!/bin/sh
[ "\$1 \$2" = "$link up" ] || exit 0
. "$peers/relay.sh"
dispatched "$bus" "$link" "$directory/calls"
END
chmod 755 $script
export DBUS_SYSTEM_BUS_ADDRESS="$bus"
for dispatcher in /usr/lib/NetworkManager/nm-dispatcher /usr/libexec/nm-dispatcher; do
	[ ! -x $dispatcher ] || $dispatcher --persist &
done
exec NetworkManager --no-daemon
