# bash completion for salsactl(1)

_salsactl() {
    local cur prev word command= options i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    case $prev in
    --bus)
        mapfile -t COMPREPLY < <(compgen -W 'auto system session' -- "$cur")
        return
        ;;
    --format)
        word='text json env postfix msmtp nullmailer'
        [[ " ${COMP_WORDS[*]} " == *' zone '* ]] && word='bind nsupdate dnsmasq unbound powerdns knot windows infoblox-csv'
        mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
        return
        ;;
    --relay)
        mapfile -t COMPREPLY < <(compgen -W 'postfix exim opensmtpd' -- "$cur")
        return
        ;;
    --separator)
        mapfile -t COMPREPLY < <(compgen -W '/ -' -- "$cur")
        return
        ;;
    --mx | --ns | --ttl | --samples | --sender | --wait | --timeout | --to | --from) return ;;
    --directory)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --exec)
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
        return
        ;;
    --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --bus) ((i++)) ;;
        -*) ;;
        *)
            command=$word
            break
            ;;
        esac
    done
    options='--bus --json --help'
    case $command in
    find | site | zone | audit | install-files) options='--json --help' ;;
    esac
    case $command in
    '') options+=' --version status best watch refresh explain lookup report-failure check metrics doctor send-test find site zone audit install-files' ;;
    best) options+=' --wait --sender' ;;
    watch) options+=' --exec --notify --sender --events' ;;
    metrics) options+=' --textfile' ;;
    lookup) options+=' --config' ;;
    doctor) options+=' --sender --config' ;;
    send-test) options+=' --to --from --yes' ;;
    find) options+=' --sender --no-verify --timeout --format --config' ;;
    zone) options+=' --mx --refuse --relay --submissions --submission --ttl --format --soa --ns --direct --separator --directory' ;;
    audit) options+=' --config --no-verify --submissions --samples' ;;
    install-files)
        if [[ $cur != -* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
        fi
        ;;
    report-failure)
        if [[ $cur != -* ]]; then
            # never through compgen -W, which expands $(...): what the agent says comes from the network
            word=$(salsactl best 2>/dev/null)
            [[ $word =~ ^[][A-Za-z0-9._:-]+$ && $word == "$cur"* ]] && COMPREPLY=("$word")
            return
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}

complete -F _salsactl salsactl
