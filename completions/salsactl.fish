# fish completion for salsactl(1)

set -l commands status best watch refresh explain lookup report-failure
set -l none "not __fish_seen_subcommand_from $commands"

complete -c salsactl -f
complete -c salsactl -l bus -x -a 'auto system session' -d 'The bus the agent is on'
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
complete -c salsactl -n '__fish_seen_subcommand_from watch' -l exec -x -a '(__fish_complete_command)' -d 'Run a command for each line'
complete -c salsactl -n '__fish_seen_subcommand_from watch' -l notify -d "Notify when a relay's domain is used for the first time"
complete -c salsactl -n '__fish_seen_subcommand_from lookup' -l config -r -F -d 'The configuration'
complete -c salsactl -n '__fish_seen_subcommand_from report-failure' -a '(salsactl best 2>/dev/null)'
