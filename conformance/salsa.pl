#!/usr/bin/perl
# A second implementation of SALSA, for one decision: rules A1 to A4, B1 to B8, C1 to C9 and D2 to D4 of docs/rules.md.
#
#     perl salsa.pl FILE...
#
# reads test vectors (README.md has their format) and prints for each a line of JSON: what the rules come to. It needs
# nothing but perl itself, and shares no code with salsa-agent.
use strict;
use warnings;
use Socket qw(AF_INET AF_INET6 inet_pton inet_ntop);

my @IGNORED = (
    qw(docker* veth* virbr* vnet* cni* flannel* cali* podman* lxc* lxd* incus* vmnet* vboxnet* cilium* nodelocaldns
      hassio nerdctl* cbr* kube-* waydroid* ovn-k8s-*), 'br-' . '[0-9a-f]' x 12
);
my %NEVER_COUNTS = map { $_ => 1 } qw(0.0.0.0/32 127.0.0.0/8 169.254.0.0/16 192.0.0.0/29 224.0.0.0/4 ::/128 ::1/128
  fe80::/10 ff00::/8);    # A2
my @SAYS_NOTHING = qw(127.0.0.0/8 169.254.0.0/16 ::1/128 fe80::/10);    # C4: every host has these
my @NO_RELAY = qw(0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 255.255.255.255/32 ::/96 ::ffff:0:0/96 fe80::/10
  ff00::/8);                                                            # C3
my @TRANSLATED = qw(64:ff9b::/96 ::ffff:0:0:0/96);    # C3: their last four octets are the IPv4 address that is meant
my @INTERNAL = qw(10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7);

# --- addresses, patterns ---------------------------------------------------------------------------------------------

sub packed { my ($text) = @_; return inet_pton($text =~ /:/ ? AF_INET6 : AF_INET, $text) }
sub text { my ($ip) = @_; return inet_ntop(length $ip == 4 ? AF_INET : AF_INET6, $ip) }

sub lies_in {    # whether an address lies in one of these prefixes
    my ($ip, @prefixes) = @_;
    for (@prefixes) {
        my ($net, $bits) = split m{/};
        $net = packed($net);
        return 1 if length $net == length $ip && unpack("B$bits", $ip) eq unpack("B$bits", $net);
    }
    return 0;
}

sub matches {    # whether a name matches one of these shell patterns
    my ($name, @patterns) = @_;
    for my $pattern (@patterns) {
        my $re = join '', map { $_ eq '*' ? '.*' : $_ eq '?' ? '.' : /^\[/ ? s/^\[!/[^/r : quotemeta }
          $pattern =~ /\[!?[^\]]+\]|./gs;
        return 1 if $name =~ /\A$re\z/s;
    }
    return 0;
}

# --- A: which addresses count ----------------------------------------------------------------------------------------

sub list_addresses {    # all of the host, whether they count or not
    my ($host) = @_;
    my @all;
    for my $link (@{ $host->{links} }) {
        for my $given (@{ $link->{addresses} }) {
            my %one = ref $given ? %$given : (address => $given);
            my ($ip, $bits) = split m{/}, $one{address};
            my %flag = map { $_ => 1 } @{ $one{flags} || [] };
            my $usable = !$flag{tentative} && !$flag{dadfailed} && !$flag{deprecated};
            $usable &&= ($one{scope} || 'global') eq 'global' && ($one{preferred_lifetime} // 1);
            push @all, { ip => packed($ip), bits => $bits, link => $link, usable => $usable, temporary => $flag{temporary} };
        }
    }
    return @all;
}

sub counting {    # A1 to A4
    my ($host, $config, @all) = @_;
    my %outside = %{ $host->{outside} || {} };
    my %leads_out = map { $_->{link} => 1 } values %outside;
    my %source = map { packed($_->{source}) => $_->{link} } values %outside;
    my $own_list = $config->{'network.ignore'};
    my (%counts, %place);
    for my $link (@{ $host->{links} }) {
        my $name = $link->{name};
        next if $link->{loopback} || !($link->{up} // 1);
        next if matches($name, $own_list ? @$own_list : @IGNORED) && ($own_list || !$leads_out{$name});
        $counts{$name} = $link;
        my $metric = $link->{default_metric};
        ($metric) = sort { $a <=> $b } values %$metric if ref $metric;
        $metric //= $leads_out{$name} ? -1 : 9**9**9;
        $place{$name} = [$leads_out{$name} ? 0 : 1, $metric, $link->{index}];
    }
    my %seen;
    my @found;
    for my $one (@all) {
        my ($ip, $name) = ($one->{ip}, $one->{link}{name});
        $name = $source{$ip} if $one->{link}{loopback} && ($one->{link}{up} // 1) && defined $source{$ip};
        next if !$counts{$name} || !$one->{usable} || lies_in($ip, keys %NEVER_COUNTS) || $seen{"$name $ip"}++;
        my $v4 = length $ip == 4;
        my $kind = $v4 ? 1 : lies_in($ip, 'fc00::/7') ? 2 : 0;
        my $picked = grep { $source{$_} eq $name && length $_ == 4 } keys %source;
        my $late = $v4 ? $picked && ($source{$ip} // '') ne $name : $one->{temporary};
        my @key = (@{ $place{$name} }, $kind, $late ? 1 : 0);
        push @found, { ip => $ip, link => $counts{$name}, temporary => $one->{temporary} && !$v4, key => \@key };
    }
    @found = sort { compare($a->{key}, $b->{key}) || $a->{ip} cmp $b->{ip} } @found;
    return @found > 64 ? @found[0 .. 63] : @found;
}

sub compare {
    my ($left, $right) = @_;
    for (0 .. $#$left) {
        my $order = $left->[$_] <=> $right->[$_];
        return $order if $order;
    }
    return 0;
}

# --- the DNS, as a recursive resolver answers ------------------------------------------------------------------------

my ($zones, %asked, %authenticated, $failing);

sub ask {    # the outcome, then the records
    my ($name, $type) = @_;
    $asked{$type}{$name}++;
    for (1 .. 8) {
        my $node = $zones->{$name};
        my $records = ref $node ? $node->{$type} : $node;
        return 'failed' if defined $records && !ref $records;
        if (ref $node && $node->{CNAME}) { $name = $node->{CNAME} =~ s/\.$//r; next }
        return $records && @$records ? ('found', @$records) : 'none';
    }
    return 'failed';
}

my %cached;

sub look_up {    # C3: both families of a host, once a round
    my ($name) = @_;
    return @{ $cached{$name} } if $cached{$name};
    my (@all, $failed);
    for my $type (qw(AAAA A)) {
        my ($outcome, @records) = ask($name, $type);
        $failed = 1 if $outcome eq 'failed';
        push @all, map { packed($_) } @records if $outcome eq 'found';
    }
    $failing ||= $failed;
    $cached{$name} = \@all;
    return @all;
}

# --- B: asking the reverse tree --------------------------------------------------------------------------------------

sub reverse_name {
    my ($ip, $level) = @_;
    return join '.', reverse((unpack 'C4', $ip)[0 .. $level / 8 - 1]), 'in-addr.arpa' if length $ip == 4;
    return join '.', reverse(split //, substr unpack('H32', $ip), 0, $level / 4), 'ip6.arpa';
}

my %tree;    # B2: a name is asked once

sub climb {    # B1 to B7: the outcome of an address, and the records of the level that decides
    my ($address, $config) = @_;
    my $v4 = length $address->{ip} == 4;
    my $levels = $v4 ? $config->{'network.ipv4_levels'} || [32, 24, 16] : $config->{'network.ipv6_levels'} || [128, 64, 56, 48, 32];
    my @levels = sort { $b <=> $a } @$levels;
    @levels = grep { $_ <= 64 } @levels if $address->{temporary};
    return if !@levels;
    my @names = map { reverse_name($address->{ip}, $_) } @levels;
    my @services = $config->{'dns.srv'} ? qw(_submissions._tcp. _submission._tcp.) : ();    # B8
    for my $name (@names) {
        $tree{$name} ||= [ask($name, 'MX')];
        $tree{$_} ||= [ask($_, 'SRV')] for map { "$_$name" } @services;
    }
    my %evidence = (address => text($address->{ip}), outcome => 'none');
    for my $place (0 .. $#levels) {
        my ($outcome, @records) = @{ $tree{ $names[$place] } };
        my ($srv_failed, @targets);
        for my $service (0 .. $#services) {
            my $name = "$services[$service]$names[$place]";
            my ($said, @srv) = @{ $tree{$name} };
            $srv_failed = 1 if $said eq 'failed';
            next if $said ne 'found' || @srv == 1 && $srv[0] =~ /\s\.$/;
            push @targets, map { exchange_of($name, $service, split) } @srv;
        }
        $failing = 1 if $srv_failed;
        if (@targets) {
            @evidence{qw(outcome level name)} = ('found', $levels[$place], $targets[0]{name});
            return \%evidence, @targets;
        }
        $failing = 1 if $outcome eq 'failed';
        $evidence{outcome} = 'failed' if $outcome eq 'failed' || $srv_failed;
        next if $outcome ne 'found';
        $evidence{outcome} = @records == 1 && $records[0] =~ /^0+\s+\.$/ ? 'refused' : 'found';
        @evidence{qw(level name)} = ($levels[$place], $names[$place]);
        return \%evidence if $evidence{outcome} eq 'refused';
        return \%evidence, map { my ($preference, $host) = split; exchange_of($names[$place], 0, $preference, 0, undef, $host) } @records;
    }
    return \%evidence;
}

sub before {    # C1, B8: whether the first is better; in what is alike any order of one's own will do
    my ($one, $other) = @_;
    return ($one->{preference} <=> $other->{preference} || $one->{service} <=> $other->{service}) < 0;
}

sub exchange_of {    # one record of a level's set; of an MX record it has no port
    my ($name, $service, $preference, $weight, $port, $host) = @_;
    $host = lc($host) =~ s/\.$//r;
    return { name => $name, service => $service, preference => $preference, port => $port, host => $host };
}

# --- C: the relay list -----------------------------------------------------------------------------------------------

sub is_host_name {    # C2, of a name in lower case without final dot
    my ($name) = @_;
    my @labels = split /\./, $name, -1;
    return 0 if length $name > 253 || @labels < 2 || $labels[-1] =~ /^\d+$/;
    return 0 if $name =~ /\A(?:(?:0x[0-9a-f]*|\d+)\.){1,3}0x[0-9a-f]*\z/;    # inet_aton(3) takes it
    return 0 if grep { !/\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\z/ } @labels;
    return $name !~ /(?:^|\.)(?:localhost|invalid|in-addr\.arpa|ip6\.arpa)$/;
}

sub leads_to {    # C3: the IPv4 address that an IPv6 one stands for, else the address itself
    my ($ip) = @_;
    return substr $ip, 12, 4 if lies_in($ip, @TRANSLATED);
    return substr $ip, 2, 4 if lies_in($ip, '2002::/16');
    return $ip;
}

sub is_spoken_to {    # C3 with D11, of one address of a relay that the network named
    my ($ip, $link, $config, @all) = @_;
    return 0 if lies_in($ip, @NO_RELAY);
    $ip = leads_to($ip);
    return 0 if lies_in($ip, @NO_RELAY);
    return 1 if !lies_in($ip, @INTERNAL);
    my @on = map { $_->{link}{name} } grep { lies_in($ip, text($_->{ip}) . "/$_->{bits}") } @all;
    return 0 if grep { $_ ne $link->{name} } @on;
    return @on || !defined $config->{'policy.internal'} || $config->{'policy.internal'};
}

sub policy_allows {    # C7
    my ($host, $authenticated, $config) = @_;
    return 0 if matches($host, @{ $config->{'policy.deny'} || [] });
    return 0 if !matches($host, @{ $config->{'policy.allow'} || ['*'] });
    return ($config->{'policy.require'} || 'none') ne 'dnssec' || $authenticated;
}

sub split_relay {
    my ($given, $port) = @_;
    return ($1, $2 || $port) if $given =~ /^\[(.*)\](?::(\d+))?$/ || $given =~ /^([^:]*)(?::(\d+))?$/;
    return ($given, $port);
}

sub solve {
    my ($vector) = @_;
    my ($host, $config) = ($vector->{host}, $vector->{config} || {});
    ($zones, $failing) = ($vector->{zones} || {}, 0);
    (%asked, %tree, %cached) = ();
    %authenticated = map { $_ => 1 } @{ $vector->{authenticated} || [] };
    my $port = $config->{'smtp.port'} || 25;
    my @all = list_addresses($host);
    my %own = map { $_->{ip} => 1 } grep { !lies_in($_->{ip}, @SAYS_NOTHING) } @all;
    my @addresses = counting($host, $config, @all);
    my (@evidence, @relays, %listed, @dropped, %given, %looked_up, %set_done);
    my $of_network = 0;
    my $add = sub {    # C6: of two entries with the same host and port the first stays; C5: 64 of the network
        my ($name, $on_port, $source, @ips) = @_;
        return if $listed{"$name $on_port"};
        if ($source ne 'static' && ++$of_network > 64) { push @dropped, "$name C5"; return }
        $listed{"$name $on_port"} = 1;
        push @relays, { host => $name, port => $on_port, source => $source, ips => \@ips };
    };
    for my $address (@addresses) {
        my $link = $address->{link};
        my ($evidence, @records) = climb($address, $config);
        push @evidence, $evidence || ();
        for my $relay ($given{ $link->{name} }++ ? () : @{ $vector->{link_relays}{ $link->{name} } || [] }) {    # C9
            my ($name, $on_port) = split_relay($relay, $port);
            my $literal = $name =~ /:|^[\d.]+$/ ? packed($name) : undef;
            if (!$literal && !is_host_name($name)) { push @dropped, "$name C2"; next }
            my @ips = $literal || look_up($name);
            my @good = grep { is_spoken_to($_, $link, $config, @all) } @ips;
            my $rule = grep({ $own{$_} || $own{ leads_to($_) } } @ips) ? 'C4' : !@good ? 'C3' : !policy_allows($name, 0, $config) ? 'C7' : '';
            $rule ? push @dropped, "$name $rule" : $add->($name, $on_port, 'link', @good);
        }
        my %best;    # C1, B8: by host and port
        for my $one (@records) {
            my $host = $one->{host};
            my $is_srv = defined $one->{port};
            if ($host eq '') { push @dropped, $is_srv ? '. B8' : '. B7'; next }
            if (!is_host_name($host)) { push @dropped, "$host C2"; next }
            if ($is_srv && !$one->{port}) { push @dropped, "$host B8"; next }
            my $known = $best{"$host " . ($one->{port} // $port)};
            $best{"$host " . ($one->{port} // $port)} = $one if !$known || before($one, $known);
        }
        my @exchanges = sort { before($a, $b) ? -1 : before($b, $a) ? 1 : $a->{host} cmp $b->{host} } values %best;
        push @dropped, map { "$_->{host} C5" } splice @exchanges, 32 if @exchanges > 32;
        my ($self, @usable);
        for my $one (@exchanges) {
            my $name = $one->{host};
            if (!$looked_up{$name} && keys %looked_up >= 64) { push @dropped, "$name C5"; next }
            $looked_up{$name} = 1;
            my @ips = look_up($name);
            $self //= $one->{preference} if grep { $own{$_} || $own{ leads_to($_) } } @ips;
            my @good = grep { is_spoken_to($_, $link, $config, @all) } @ips;
            @good ? push @usable, [$one, @good] : push @dropped, "$name C3";
        }
        for (@usable) {
            my ($one, @good) = @$_;
            my $name = $one->{host};
            my $authenticated = $authenticated{ $one->{name} } && $authenticated{$name};
            my $barred = defined $self && $one->{preference} >= $self;
            my $rule = $barred ? 'C4' : policy_allows($name, $authenticated, $config) ? '' : 'C7';
            $rule ? push @dropped, "$name $rule" : $add->($name, $one->{port} // $port, 'dns', splice @good, 0, 16);
        }
    }
    my $last_resort;
    for (@{ $config->{'static.relays'} || [] }) {    # C8
        my ($name, $on_port) = split_relay($_, $port);
        $last_resort //= "$name $on_port";
        $add->($name, $on_port, 'static');
    }
    my ($best, $spoken_to, $verified) = choose($vector, $config, $last_resort, @relays);
    my %once = map { map { $_ => 1 } values %$_ } values %asked;
    my %hosts = map { %{ $asked{$_} || {} } } qw(A AAAA);
    my $state = !@addresses ? 'offline' : $failing || $verified && !$verified->{ok} ? 'degraded' : 'ready';
    my %unique = map { $_ => 1 } @dropped;
    return {
        name => $vector->{name},
        addresses => [map { text($_->{ip}) } @addresses],
        outcomes => \@evidence,
        asked_mx => [keys %{ $asked{MX} }],
        asked_srv => [keys %{ $asked{SRV} }],
        asked_hosts => [keys %hosts],
        asked_once => !grep({ $_ > 1 } keys %once) ? \1 : \0,
        relays => [map { shown($_) } @relays],
        dropped => [keys %unique],
        best => $best ? shown($best) : undef,
        state => $state,
        spoken_to => $spoken_to,
    };
}

sub shown {
    my ($relay) = @_;
    my $host = $relay->{host} =~ /:/ ? "[$relay->{host}]" : $relay->{host};
    return "$host:$relay->{port} $relay->{source}";
}

# --- D: the best relay -----------------------------------------------------------------------------------------------

sub choose {
    my ($vector, $config, $last_resort, @relays) = @_;
    my $enabled = $config->{'verify.enabled'} // 1;
    return ($relays[0], [], undef) if !$enabled || !@relays;    # D4
    my (@ok, @spoken_to);
    for my $relay (@relays) {
        last if @ok == 2;                                       # D2
        my $host = $relay->{host};
        push @spoken_to, $host;
        my $reachable = $host =~ /:|^[\d.]+$/ || @{ $relay->{ips} } || look_up($host);
        push @ok, $relay if $reachable && ($vector->{relays}{$host} // 'ok') eq 'ok';
    }
    my ($resort) = grep { defined $last_resort && "$_->{host} $_->{port}" eq $last_resort } @relays;
    return ($ok[0] || $resort, \@spoken_to, { ok => scalar @ok });    # D3
}

# --- JSON ------------------------------------------------------------------------------------------------------------

sub parse {    # of the JSON text at the place where $_ was matched last
    /\G\s+/gc;
    if (/\G\{/gc) {
        my %object;
        until (/\G[\s,]*\}/gc) { /\G[\s,]+/gc; my $key = parse(); /\G\s*:/gc or die 'no colon'; $object{$key} = parse() }
        return \%object;
    }
    if (/\G\[/gc) {
        my @array;
        until (/\G[\s,]*\]/gc) { /\G[\s,]+/gc; push @array, parse() }
        return \@array;
    }
    return $1 =~ s/\\u([0-9a-f]{4})/chr hex $1/gier =~ s/\\(.)/$1/gr if /\G"((?:[^"\\]|\\.)*)"/gc;
    return $1 if /\G(-?\d+)/gc;
    return { true => 1, false => 0, null => undef }->{$1} if /\G(true|false|null)/gc;
    die 'no JSON at ' . (pos // 0);
}

sub json {
    my ($value) = @_;
    return 'null' if !defined $value;
    return $$value ? 'true' : 'false' if ref $value eq 'SCALAR';
    return '[' . join(', ', map { json($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(', ', map { json($_) . ': ' . json($value->{$_}) } sort keys %$value) . '}' if ref $value;
    return $value if $value =~ /\A\d+\z/;
    return '"' . $value =~ s/(["\\])/\\$1/gr . '"';
}

for my $file (@ARGV) {
    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    local $_ = <$in>;
    print json(solve($_)), "\n" for @{ parse() };
}
