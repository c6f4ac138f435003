from support.fleet import galaxies, master, minions, salt_cli, tree  # noqa: F401
