#!/bin/sh
# PID 1 of the guest (machine.py): loads the real device-mapper, dm-crypt and ext4, then runs commands.sh. With a disk
# for $system it starts systemd on an overlay of the host's files, with commands.sh as a unit.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mount -t tmpfs -o mode=755 tmpfs /run
for directory in /tmp /dev/shm; do mount -t tmpfs tmpfs $directory; done
mkdir -p /run/modules/lib /run/share /run/lock
ln -s /usr/lib/uml/modules /run/modules/lib/modules
# dm-crypt fails unless the ciphers are loaded before encrypted-keys
for module in aes_generic cbc xts sha256_generic hmac dm-mod encrypted-keys dm-crypt algif_skcipher ext4 $(echo "$modules" | tr , " "); do
    modprobe -d /run/modules $module
done
mount -t hostfs none /run/share -o "$share"
# the new /tmp hides a checkout below /tmp
[ -e "$repo" ] || { mkdir -p "$repo" && mount -t hostfs none "$repo" -o "$repo"; }
here=$(dirname "$0")
[ -n "$system" ] || exec sh "$here/commands.sh"

root=/run/root
mkdir $root /run/disk
mount -t ext4 "$system" /run/disk
[ -d /run/disk/upper ] || first=yes
mkdir -p /run/disk/upper /run/disk/work
mount -t overlay overlay $root -o lowerdir=/,upperdir=/run/disk/upper,workdir=/run/disk/work
if [ -n "$first" ]; then
    units=$root/etc/systemd/system
    # the host's services do not start here. /tmp stays: the checkout and the test's files may be in it
    rm -rf $units/*.wants
    # with this file systemd takes the machine for a container, and does not sync its disks at the end
    rm -f $root/.dockerenv
    mkdir -p $units/multi-user.target.wants $root/var/log/journal
    for name in systemd/system/getty.target systemd/system/systemd-logind.service tmpfiles.d/tmp.conf \
        tmpfiles.d/x11.conf systemd/system-generators/systemd-sysv-generator; do
        mkdir -p "$root/etc/${name%/*}"
        ln -sf /dev/null "$root/etc/$name"
    done
    : >$root/etc/fstab
    echo 0123456789abcdef0123456789abcdef >$root/etc/machine-id
    cat >$units/commands.service <<UNIT
[Service]
ExecStart=/bin/sh $here/commands.sh
Environment=HOME=/root LC_ALL=C.UTF-8
StandardInput=tty-force
StandardOutput=tty
TTYPath=/dev/console
UNIT
    ln -s ../commands.service $units/multi-user.target.wants
fi
for directory in proc sys dev; do mount --move /$directory $root/$directory; done
mount -t tmpfs -o mode=755 tmpfs $root/run
mkdir $root/run/share
mount --move /run/share $root/run/share
cd $root
pivot_root . .
umount -l .
exec env -i TERM=dumb /lib/systemd/systemd --unit=multi-user.target --show-status=0 --log-target=journal \
    <>/dev/console >&0 2>&1
