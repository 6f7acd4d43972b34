"""Development chain and simulated devices: product code, used by tests too. Never mainnet."""
