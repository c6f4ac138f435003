#!/bin/sh
# PID 1 of the guest (machine.py): real device-mapper, dm-crypt and ext4, then one command after the other. The host puts
# each into $share/command and sends a newline; output and exit status go to $share.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm
for directory in /run /tmp /dev/shm; do mount -t tmpfs tmpfs $directory; done
mkdir -p /run/modules/lib /run/share /run/lock
ln -s /usr/lib/uml/modules /run/modules/lib/modules
# dm-crypt fails unless the ciphers are there before encrypted-keys
for module in aes_generic cbc xts sha256_generic hmac dm-mod encrypted-keys dm-crypt algif_skcipher ext4 $(echo "$modules" | tr , " "); do
    modprobe -d /run/modules $module
done
mount -t hostfs none /run/share -o "$share"
# a checkout below /tmp is hidden by now
[ -e "$repo" ] || { mkdir -p "$repo" && mount -t hostfs none "$repo" -o "$repo"; }
stty -F /dev/console raw -echo
echo ready
while read -r _; do
    sh /run/share/command >/run/share/output 2>&1 </dev/null
    echo $? >/run/share/status
    echo done
done
