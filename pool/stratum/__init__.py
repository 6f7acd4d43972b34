"""Stratum V1: sockets, sessions, difficulty, identity of devices. Shares themselves are judged in `native.channel`.

The porch makes a hub of configuration, work and share log, and a server of hub and ports:

    hub = make_hub(config.stratum, config.vardiff, "mainnet", desk, log, on_found)
    async with StratumServer(hub, ports_of(config.stratum, config.coinbase.mode)) as server:
        await server.run()
"""
