"""Sharing one connection among several ``ssh`` commands (ControlMaster), in the protocol of OpenSSH (PROTOCOL.mux)."""
