"""Files that Ansible finds by their place; ``pmitogen plugin-path`` prints the directory of the connection plugin."""
