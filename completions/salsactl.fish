# fish completion for salsactl(1)

set -l commands status best watch refresh explain lookup report-failure check metrics zone audit
set -l none "not __fish_seen_subcommand_from $commands"

complete -c salsactl -f
complete -c salsactl -n 'not __fish_seen_subcommand_from zone audit' -l bus -x -a 'auto system session' -d 'The bus the agent is on'
complete -c salsactl -l json -d 'Print the values as JSON'
complete -c salsactl -s h -l help -d 'Show the help'
complete -c salsactl -n $none -l version -d 'Show the version'
complete -c salsactl -n $none -a status -d 'Show the relay, the list and the evidence'
complete -c salsactl -n $none -a best -d 'Print the relay to use now'
complete -c salsactl -n $none -a watch -d 'Print the relay, and each change'
complete -c salsactl -n $none -a refresh -d 'Ask and verify everything again'
complete -c salsactl -n $none -a explain -d 'Show why this relay and not that one'
complete -c salsactl -n $none -a lookup -d 'Show what the reverse tree says for an address'
complete -c salsactl -n $none -a report-failure -d 'Report that a relay did not take mail'
complete -c salsactl -n $none -a check -d 'One line for Nagios and Icinga'
complete -c salsactl -n $none -a metrics -d 'State and counters as OpenMetrics text'
complete -c salsactl -n $none -a zone -d 'Print the records that name the relays of a prefix'
complete -c salsactl -n $none -a audit -d 'Say what is wrong with the relays a prefix publishes'
complete -c salsactl -n '__fish_seen_subcommand_from watch' -l exec -x -a '(__fish_complete_command)' -d 'Run a command for each change'
complete -c salsactl -n '__fish_seen_subcommand_from best' -l wait -d 'Wait for a decision'
complete -c salsactl -n '__fish_seen_subcommand_from best watch' -l sender -x -d 'The relay for this envelope sender'
complete -c salsactl -n '__fish_seen_subcommand_from watch' -l events -d 'A line for each change of state, list and verdict'
complete -c salsactl -n '__fish_seen_subcommand_from watch' -l notify -d "Notify when a relay's domain is used for the first time"
complete -c salsactl -n '__fish_seen_subcommand_from lookup audit' -l config -r -F -d 'The configuration'
complete -c salsactl -n '__fish_seen_subcommand_from report-failure' -a '(salsactl best 2>/dev/null | string match -r "^[][A-Za-z0-9._:-]+\$")'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l mx -x -d 'A relay, as PREFERENCE:HOST'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l refuse -d 'Say that there is no relay'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l ttl -x -d 'How long answers are kept'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l format -x -a bind -d 'Master files'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l soa -d 'Print whole zones'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l ns -x -a '(__fish_print_hostnames)' -d 'A name server of the zones'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l direct -d 'Part of a /24 without RFC 2317'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l separator -x -a '/ -' -d 'In the name of the zone of part of a /24'
complete -c salsactl -n '__fish_seen_subcommand_from zone' -l directory -x -a '(__fish_complete_directories)' -d 'Write a file for each zone'
complete -c salsactl -n '__fish_seen_subcommand_from audit' -l no-verify -d 'Do not speak to the relays'
complete -c salsactl -n '__fish_seen_subcommand_from audit' -l samples -x -d 'Ask about so many addresses'
