#!/bin/sh
# Changes what fresh processes of two accounts read. $1: the login; $2: whom it becomes; $3: a directory for what is to be restored.
set -e
cp -p "/etc/sudoers.d/$1" "$3/rules"
gpasswd -a "$2" games
cd "/home/$1"
(echo export FROM_RC=one; echo umask 027; cat .bashrc) > .new
cat .new > .bashrc
for account in "$1" "$2"; do
    site=`su "$account" -c "/usr/bin/python3 -m site --user-site"`
    su "$account" -c "mkdir -p '$site/yaml'; echo VALUE = 1 > '$site/fresh_user.py'; echo \"__version__ = 'mine'\" > '$site/yaml/__init__.py'"
done
cd /
mv "/home/$1" "/home/$1.old"
cp -a "/home/$1.old" "/home/$1"
echo "export FROM_PROFILE=one; umask 027" > "/home/$2/.profile"
chown "$2:" "/home/$2/.profile"
