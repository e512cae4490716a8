"""A lab from its first release to the next one and back."""
