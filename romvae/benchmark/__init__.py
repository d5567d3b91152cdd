"""The benchmark: every case by its recipe, one small file per result, one page made of them."""

from romvae.benchmark.recipe import Bar, Problem, Published, Recipe, find_problems, read_problems
from romvae.benchmark.result import Result, read_results
from romvae.benchmark.run import cache_folder, run_problem, run_problems

__all__ = [
    "Bar",
    "Problem",
    "Published",
    "Recipe",
    "Result",
    "cache_folder",
    "find_problems",
    "read_problems",
    "read_results",
    "run_problem",
    "run_problems",
]
