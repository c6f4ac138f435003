from support.fleet import galaxies, master, minions, salt_cli  # noqa: F401
