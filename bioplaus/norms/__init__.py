"""Normalization in three choices: reference, statistics, operation."""
