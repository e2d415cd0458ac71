# fish completion for salsa-agent(8)

complete -c salsa-agent -f
complete -c salsa-agent -l config -r -F -d 'The configuration'
complete -c salsa-agent -l bus -x -a 'auto system session' -d 'The bus to publish on'
complete -c salsa-agent -l log-level -x -a 'debug info warning error critical' -d 'How much to log'
complete -c salsa-agent -l check-config -d 'Check the configuration and exit'
complete -c salsa-agent -l version -d 'Show the version'
complete -c salsa-agent -s h -l help -d 'Show the help'
