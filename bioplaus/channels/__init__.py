"""Feedback: how V is made from W."""
