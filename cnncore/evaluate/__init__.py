"""Scores of trained networks on whole data sets: tables, pictures, results as JSON."""

from cnncore.evaluate.label_maps import MapScores, evaluate_maps

__all__ = ["MapScores", "evaluate_maps"]
