#!/bin/sh
# The guest's side of Machine.start: runs one command after the other. The host writes a command into the exchange
# directory and sends a newline to the console. The output and the exit status are written to the same directory.
stty -F /dev/console raw -echo
echo ready
while read -r _; do
    sh /run/share/command >/run/share/output 2>&1 </dev/null
    echo $? >/run/share/status
    echo done
done
