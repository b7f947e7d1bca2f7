"""What takes a mirror step: tables, trees, and the geometries they step in."""
