# shellcheck shell=sh
# list the commands

printf 'Usage: ./run [COMMAND] [ARGUMENT…]\n\n'
for file in scripts/*.sh; do
	printf '  %-10s %s\n' "$(basename "$file" .sh)" "$(sed -n '2s/^# //p' "$file")"
done
printf '\nWithout a command, or with options only, it is "start".\n'
