# Runs one command and makes sure that it does not outlive whoever holds the other end of this shell's standard input.
# usage: sh -c "$(cat guardian.sh)" NAME FOLDER-TO-REMOVE-OR-EMPTY COMMAND [ARGUMENT...]
# Standard error is the log. Standard output is a lock file: it stays locked as long as this shell lives.
remove=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- >&2 &
server=$!

# Waits for the end of input (the owner closed it, or died), then stops the command: fast, at once, by force.
(
  trap '' HUP INT QUIT TERM
  while read -r _; do :; done <&3
  trap '' USR1
  for signal in INT QUIT KILL; do
    tenths=0
    # The signal is repeated: the first may come before the command has set up its handlers.
    while [ "$tenths" -lt 100 ]; do
      kill "-$signal" "$server" 2>/dev/null || exit 0
      sleep 0.1 2>/dev/null || sleep 1
      tenths=$((tenths + 1))
    done
  done
) &
watcher=$!
exec 3<&-
trap 'kill -INT "$server" 2>/dev/null' HUP INT TERM

while :; do
  wait "$server"
  status=$?
  # A status above 128 is also what an interrupted wait gives.
  [ "$status" -gt 128 ] && kill -0 "$server" 2>/dev/null || break
done

# A watcher that still waits dies of this signal; one that saw the end of input ignores it and ends with success.
kill -USR1 "$watcher" 2>/dev/null
trap '' HUP INT TERM
wait "$watcher" 2>/dev/null && [ -n "$remove" ] && rm -rf -- "$remove"
exit "$status"
