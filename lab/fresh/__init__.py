"""
What the README promises, on a bare Debian 12 with nothing but what the README names.

``make test-fresh`` clones the project into such a system and runs the README's commands there: as root, who installs
the Debian packages, and as another user, who finds them installed. `system` lays the system, `settings` gives it what
this machine needs to reach its package registries, `enter` runs a command in it.
"""
