#!/bin/sh
# server.sh FOLDER COMMAND...: run COMMAND with an sshd on 127.0.0.1 port 2222, and FOLDER/ssh, a command that logs in there as root
# and passes its environment, its home and its directory on, as a local shell would have them.
folder=$1
shift
[ -f "$folder/key" ] || "$SHIMS/ssh-keygen" -q -t ed25519 -N '' -f "$folder/key" || exit 125
[ -f "$folder/host_key" ] || "$SHIMS/ssh-keygen" -q -t ed25519 -N '' -f "$folder/host_key" || exit 125
echo "server $(cat "$folder/host_key.pub")" > "$folder/known_hosts"
cat > "$folder/run" <<EOF
#!/bin/sh
[ -z "\$SUITE_HOME" ] || export HOME="\$SUITE_HOME"
[ -z "\$SUITE_DIRECTORY" ] || cd "\$SUITE_DIRECTORY"
exec /bin/sh -c "\$SSH_ORIGINAL_COMMAND"
EOF
chmod +x "$folder/run"
cat > "$folder/sshd_config" <<EOF
Port 2222
ListenAddress 127.0.0.1
HostKey $folder/host_key
AuthorizedKeysFile $folder/key.pub
StrictModes no
PermitRootLogin yes
AcceptEnv *
ForceCommand $folder/run
UsePAM no
PidFile none
MaxStartups 500
SetEnv SHLVL=1
EOF
cat > "$folder/ssh_config" <<EOF
Host *
  User root
  HostKeyAlias server
  ProxyCommand $folder/connect
  IdentityFile $folder/key
  IdentitiesOnly yes
  UserKnownHostsFile $folder/known_hosts
  GlobalKnownHostsFile /dev/null
  SendEnv *
EOF
cat > "$folder/connect" <<EOF
#!$PYTHON
import os, socket, threading
sock = socket.create_connection(("127.0.0.1", 2222))
def send():
    while data := os.read(0, 65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := sock.recv(65536):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
EOF
chmod +x "$folder/connect"
cat > "$folder/ssh" <<EOF
#!/bin/sh
SUITE_DIRECTORY=\$PWD
SUITE_HOME=\$HOME
export SUITE_DIRECTORY SUITE_HOME
exec "$SHIMS/ssh" -F "$folder/ssh_config" -o User=root "\$@"
EOF
chmod +x "$folder/ssh"
"$SSHD" -f "$folder/sshd_config" -E "$folder/sshd.log" || exit 125
exec "$@"
