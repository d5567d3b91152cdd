"""Thousands of rollouts over parameters and initial fields: one store of all, or a table of quantities of interest."""
