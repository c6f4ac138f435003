#!/bin/sh
# The guest's side of Machine.start: one command after the other. The host puts each into the exchange directory and
# sends a newline to the console; output and exit status go to that directory.
stty -F /dev/console raw -echo
echo ready
while read -r _; do
    sh /run/share/command >/run/share/output 2>&1 </dev/null
    echo $? >/run/share/status
    echo done
done
