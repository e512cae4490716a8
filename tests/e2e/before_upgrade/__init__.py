"""A lab before an upgrade."""
