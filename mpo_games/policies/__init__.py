"""Policies, which take mirror steps: tables, trees, and the geometries of their steps."""
