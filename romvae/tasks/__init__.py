"""Ensembles of trajectories as tasks: shared out over processes or a Dask cluster, each finished one kept on disk.

What a trajectory is (a simulation, a rollout) is the business of the modules that use it.
"""
