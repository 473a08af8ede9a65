"""One host of the hub: its states, its connection, its accounts and its requests."""
