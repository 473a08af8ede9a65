"""Operations on files of a host without Python, over SFTP: those of target/library/remote_files.py.

They return the same values. SFTP gives less information: numbers of devices, inodes and links are 0, and times are whole
seconds. The status "failure" is EIO unless the attributes of the path and of its file system show the reason. Each operation
opens a session. All functions block.
"""
