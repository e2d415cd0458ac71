# bash completion for salsa-agent(8)

_salsa_agent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    case $prev in
    --bus) mapfile -t COMPREPLY < <(compgen -W 'auto system session' -- "$cur") ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error critical' -- "$cur") ;;
    --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W '--config --bus --log-level --check-config --version --help' -- "$cur") ;;
    esac
}

complete -F _salsa_agent salsa-agent
