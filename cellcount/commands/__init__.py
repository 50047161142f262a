"""The commands: options become settings, one call does the work, the outcome is echoed.

A command module imports only click and the light modules of cellcount at its top, because
``--help`` imports it; pandas, torch and their like are imported inside the callback. A command
returns its exit code.
"""
