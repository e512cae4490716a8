"""One flip: which side works on which stack, and how all hosts come to agree on it."""
