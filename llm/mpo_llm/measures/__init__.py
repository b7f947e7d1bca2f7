"""What is measured of a policy: reports, tournaments, length control."""
