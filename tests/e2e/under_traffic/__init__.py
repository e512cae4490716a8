"""A lab whose users never stop."""
