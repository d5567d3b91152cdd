"""What romvae promises about faults, bad input and exactness, tried for real in child processes.

`romvae.selfcheck.suite.run_selfcheck` runs all of it.
"""
