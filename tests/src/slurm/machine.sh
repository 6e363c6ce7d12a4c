#!/bin/sh
# The first process of a machine: makes it, says its own process id as others see it, and stays, since
# the machine ends with it. A shell also takes in the orphans.
#
#   machine.sh NAME FOLDER [SOURCE TARGET]...
#
# Every SOURCE of the host is mounted at its TARGET.
set -eu
name=$1 folder=$2
shift 2

# Still the host's /proc.
read -r pid _ </proc/self/stat
mount -t proc proc /proc
echo "$name" >/proc/sys/kernel/hostname

# The host's shows the host's network. /mnt is free for a moment.
if [ -d /sys/fs/cgroup ]; then
    mount --rbind /sys/fs/cgroup /mnt
    mount -t sysfs sysfs /sys
    mount --move /mnt /sys/fs/cgroup
else
    mount -t sysfs sysfs /sys
fi

for file in hosts passwd group; do
    mount --bind "$folder/etc/$file" "/etc/$file"
done
# What runs without SLURM_CONF finds the cluster, too.
if [ -d /etc/slurm ]; then
    mount --bind "$folder/etc" /etc/slurm
fi
while [ $# -gt 0 ]; do
    mount -o bind,ro "$1" "$2"
    shift 2
done

mount -t tmpfs -o mode=1777 tmpfs /dev/shm
if [ -d /run/lock ]; then
    mount -t tmpfs -o mode=1777 tmpfs /run/lock
fi
# A /tmp of its own, but for the folder that all machines share.
mount -t tmpfs -o mode=1777 tmpfs /mnt
mkdir "/mnt/${folder#/tmp/}"
mount --rbind "$folder" "/mnt/${folder#/tmp/}"
mount --move /mnt /tmp

echo "$pid"
exec >/dev/null
tail -f /dev/null
