"""Windows on the pool: public pages and API, operator console. Reads every room, writes only through the inbox."""
