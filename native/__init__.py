"""Facts, compiled: hashing, difficulty, jobs, the share log and the judge of shares. No I/O but the share log's memory map, no clock, no config."""
