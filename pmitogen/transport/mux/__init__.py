"""Share a connection among several ssh commands, by the protocol of OpenSSH's ControlMaster, each with its own streams."""
